# Two commands: `make audit` and `make test`.  Each makes what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# The training frameworks live in an environment of their own: they bring a hundred packages.
FRAMEWORKS := .venv-frameworks
FRAMEWORKS_EXTRAS := audit,trl,torchrl,ray
FRAMEWORKS_PACKAGES := pytest peft transferqueue torchdata hydra-core codetiming pylatexenc cachetools fastapi uvicorn \
	jaxtyping loguru httpx

.PHONY: audit test frameworks test-adapters test-reasoning-gym check bench ratios robustness floor remote gpu aot kernels-with newest-triton \
	newest-numpy other-versions resolve readme notebooks docs docs-fast dist wheel wheel-test install-test nightly clean

audit: $(VENV)/.audit
	$(BIN)/kernadv audit --demo --html audit.html

test: $(VENV)/.test
	$(BIN)/python -m pytest -q

frameworks: $(FRAMEWORKS)/.ready

test-adapters: $(FRAMEWORKS)/.ready
	@# One thread: the models are tiny.  What the frameworks warn of is theirs.
	OMP_NUM_THREADS=1 $(FRAMEWORKS)/bin/python -m pytest -q -W default tests/adapters tests/logs/test_log_engines.py

# The study's third task; reasoning-gym builds some of its packages from source, one with a C compiler.
test-reasoning-gym: $(VENV)/.test
	$(PIP) -e ".[benchmarks]"
	$(BIN)/python -m pytest -q tests/test_rlvr.py -k euclid

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.readthedocs .readthedocs.yaml
	$(BIN)/zizmor --offline --quiet .github

# Every speed and memory number, in five minutes of two idle cores; none is worth printing before these tests pass.
bench: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/laws tests/oracles tests/test_audit.py tests/logs
	$(BIN)/python -m pytest -q benchmarks/speed --benchmark-json=benchmarks/results/speed.json
	$(BIN)/python -m benchmarks.speed

# Whether we are still as far ahead of the peers as in the committed results; no time is compared, only ratios of one run.
ratios: $(VENV)/.test
	$(BIN)/python -m pytest -q benchmarks/speed --short --benchmark-json=$(VENV)/ratios.json
	$(BIN)/python -m benchmarks.speed --check $(VENV)/ratios.json

# Attacks on the estimator and the regressors, 25 minutes of two cores; OPTIONS=--short tries few of every kind, in two.
robustness: $(VENV)/.test
	$(BIN)/python -m benchmarks.robustness $(OPTIONS)

# The default estimator beside the floor, 40 minutes of two cores; OPTIONS=--short runs a few cells, in less than a minute.
floor: $(VENV)/.test
	$(BIN)/python -m benchmarks.floor $(OPTIONS)

# A shared estimator on Ray: 200 kills of its actor, speed, memory; OPTIONS=--short kills it three times and writes nothing.
remote: $(FRAMEWORKS)/.ready
	$(FRAMEWORKS)/bin/python -m benchmarks.remote $(OPTIONS)

# Verify the fused kernels on this machine's GPU, then time them; with the Python that sees the GPU, else with .venv.  In parts:
# OPTIONS="--verify --out DIR --minutes 9", "--only ours ...", "--only peers ...".
gpu:
	@if $(PYTHON) -c 'import sys, torch, triton; sys.exit(not torch.cuda.is_available())' 2>/dev/null; \
		then $(PYTHON) -m benchmarks.gpu $(OPTIONS); \
		else $(MAKE) $(VENV)/.test && $(BIN)/python -m benchmarks.gpu $(OPTIONS); fi

# Every configuration of the fused kernels for every GPU they are shipped for; needs no GPU.
aot: $(VENV)/.test
	KERNADV_NIGHTLY=1 $(BIN)/python -m pytest -q tests/kernels/test_aot.py

# The fused kernels under other versions than the pinned ones: `make kernels-with WITH="triton==3.6.0 numpy==2.4.6"`.
TESTS := tests/kernels
kernels-with: $(VENV)/.test
	rm -rf $(VENV)/with
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/with $(WITH)
	PYTHONPATH=$(abspath $(VENV)/with) $(BIN)/python -m pytest -q $(TESTS)

newest-triton:
	$(MAKE) kernels-with WITH=triton

# Of numpy, the newest that the pinned numba takes.
newest-numpy: $(VENV)/.test
	$(MAKE) kernels-with WITH="'$$($(BIN)/python -c 'from importlib.metadata import requires; \
		print(*(need for need in requires("numba") if need.startswith("numpy")))')'"

# In short: the oldest Triton that the kernels take, with a numpy that its interpreter alone does not take; a newer Triton.
other-versions:
	TRITON_INTERPRET=1 $(MAKE) kernels-with WITH="triton==3.6.0 numpy==2.4.6" TESTS=tests/kernels/suite_ragged.py
	TRITON_INTERPRET=1 $(MAKE) kernels-with WITH=triton==3.9.0 TESTS=tests/kernels/suite_ragged.py

# Do the pinned versions install where docs/installation.md says so?
resolve: $(BIN)/uv
	$(BIN)/python .ci/resolve.py --extras "$(FRAMEWORKS_EXTRAS)" --packages "$(FRAMEWORKS_PACKAGES)"

readme: $(VENV)/.test
	$(BIN)/python -m benchmarks.readme
	$(BIN)/python -m benchmarks.architecture

# Runs the notebooks and keeps what they show in them, for readers of the repository: `make notebooks NOTEBOOKS=notebooks/01*`.
NOTEBOOKS :=
notebooks: $(VENV)/.docs
	$(BIN)/python -m benchmarks.notebooks $(NOTEBOOKS)

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Every page and link, nothing executed: a minute.
docs-fast: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -D nb_execution_mode=off -D suppress_warnings=myst-nb.lexer -b html docs docs/_build/fast
	@echo "docs/_build/fast/index.html"

# What is published: source and wheel.
dist: $(VENV)/.test
	rm -rf dist build
	$(BIN)/python -m build --outdir dist . >/dev/null
	ls dist
	@# A tag that is published names the version.
	test "$(GITHUB_REF_TYPE)" != tag || ls dist/kernadv-$(GITHUB_REF_NAME:v%=%)-*.whl

wheel: $(VENV)/wheel

$(VENV)/wheel: pyproject.toml $(shell find kernadv -name '*.py') | $(VENV)/.test
	rm -rf dist build
	$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	rm -rf $@ && mkdir -p $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ dist/kernadv-*.whl

# Tests of everything public and of every compiled loop; make nightly runs all.
WHEEL_TESTS := $(addprefix tests/,test_imports.py test_doctests.py test_bad_input.py bandwidth oracles pooling \
	$(addprefix laws/test_,estimator.py local_polynomial.py moments.py neighbours.py parts.py series.py))

# The built wheel, from another directory: what the checkout holds cannot hide what the wheel lacks.  Every index of the
# compiled loops is checked on the way; numba's cache, which cannot tell, lies in the wheel's own folder.
wheel-test: $(VENV)/wheel
	cd $(VENV)/wheel && NUMBA_BOUNDSCHECK=1 PYTHONPATH=$(CURDIR)/$(VENV)/wheel ../bin/python -P -m pytest -q \
		--confcutdir=$(CURDIR)/tests -c $(CURDIR)/pyproject.toml --rootdir=$(CURDIR)/tests $(addprefix $(CURDIR)/,$(WHEEL_TESTS))

# Folder, git URL and wheel, each into a fresh environment, with every supported Python that is on the PATH.
install-test: | $(BIN)/python
	$(BIN)/python .ci/install.py --every

# Everything, also the cases that are left out otherwise because they take long.
nightly: $(VENV)/.test
	KERNADV_NIGHTLY=1 $(BIN)/python -m pytest -q
	KERNADV_NIGHTLY=1 $(MAKE) wheel-test WHEEL_TESTS=tests
	$(MAKE) notebooks && git --no-pager diff --stat notebooks

clean:
	rm -rf $(VENV) $(FRAMEWORKS) dist build *.egg-info docs/_build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "python3 -m venv does not work here; on Debian: apt-get install python3-venv"; exit 1; }

# torch before everything else: a requirement without a version would bring the newest build with its CUDA libraries.
$(VENV)/.audit: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[audit]"
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch
	$(PIP) -e ".[test]"
	@touch $@

$(BIN)/uv: constraints.txt | $(BIN)/python
	$(PIP) uv
	@touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch
	$(PIP) -e ".[docs]"
	@touch $@

# Without their requirements: verl, SkyRL and Tunix exclude versions that the others need; of ms-swift, AReaL and OpenRLHF
# only the sources are read; tinker-cookbook and ART bring more than their functions use.
FRAMEWORKS_ALONE := verl skyrl skyrl-gym ms-swift areal \
	tinker tinker-cookbook chz blobfile termcolor tiktoken sniffio zstandard distro h2 hpack hyperframe lxml \
	openpipe-art openai litellm fastuuid tblib setproctitle nest-asyncio python-dotenv \
	google-tunix jax jaxlib flax optax orbax-checkpoint qwix google-metrax clu absl-py etils einops humanize ml_dtypes \
	opt_einsum perfetto sentencepiece simplejson tenacity tensorboardX tensorstore treescope
FRAMEWORKS_PIP := $(FRAMEWORKS)/bin/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt -c constraints-frameworks.txt
$(FRAMEWORKS)/.ready: pyproject.toml constraints.txt constraints-frameworks.txt
	$(PYTHON) -m venv --clear $(FRAMEWORKS)
	$(FRAMEWORKS_PIP) torch
	$(FRAMEWORKS_PIP) -e ".[$(FRAMEWORKS_EXTRAS)]" $(FRAMEWORKS_PACKAGES)
	$(FRAMEWORKS_PIP) --no-deps $(FRAMEWORKS_ALONE) \
		"uvloop; sys_platform != 'win32'" "openrlhf; python_version == '3.11' and platform_machine == 'x86_64'"
	@touch $@
