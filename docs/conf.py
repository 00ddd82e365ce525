"""Configuration of the documentation: pages and notebooks are executed, nothing is fetched from the network."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  # builds its cache here and now, so that no executed page has to say so

import kernadv

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# The `kernadv` command of this environment, for the cells that call it.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
# Sphinx reads only what lies below this folder; everything generated is made anew.
shutil.rmtree(HERE / "generated", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "generated" / "notebooks", ignore=shutil.ignore_patterns(".*"))

project = "kernadv"
author = "The kernadv developers"
copyright = f"2026, {author}"
version = release = kernadv.__version__

extensions = [
    "complete",
    "docstrings",
    "mathml",
    "rebuild",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
exclude_patterns = ["_build", "_ext", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
default_role = "literal"

# Pages and notebooks run from start to end.  An error, or anything on stderr, is a warning that names the
# page; the others are still built, and then the build fails (`-W --keep-going`).  The two notebooks that simulate for
# minutes are shown as they are committed: `make notebooks` runs them, and so does `make nightly`.
nb_execution_mode = "force"
nb_execution_excludepatterns = ["**/02_statistical_validation.ipynb", "**/03_beyond_kae.ipynb"]
nb_execution_show_tb = True
nb_execution_timeout = 600
nb_output_stderr = "warn"
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "kernadv"
html_static_path = ["_static"]
html_css_files = ["kernadv.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "get_started", "audit", "installation")}
html_theme_options = {
    "show_prev_next": True,
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
    "show_toc_level": 2,
}
