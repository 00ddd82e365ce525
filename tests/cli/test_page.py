"""The page: its numbers are those of the JSON, it needs nothing else, and nothing of the log can break it."""

import json
import re
from dataclasses import replace

import pytest

from kernadv.audit import audit
from kernadv.logs import read_log
from kernadv.report import Report
from kernadv.report.page import render

CLOCKS = ["plot-bandwidth-relative", "plot-bandwidth-steps", "plot-bandwidth-visits"]
PLOTS = [*CLOCKS, "plot-strata", "plot-gaps", "plot-drift"]


@pytest.fixture
def report(log):
    found = read_log(log, columns={"value": "value"})
    result = audit(found.groups, value=found.value, draws=60, notes=["a note"])
    return Report(result, "log.parquet", found.format, "triangular", 60, binary=True)


@pytest.mark.parametrize("truth", [True, False])
def test_numbers_and_plots(run, log, tmp_path, truth, read_page, assert_numbers_equal):
    options = ["--map", "value=value"] if truth else []
    assert run("audit", log, *options, "--html", tmp_path / "p.html", "--json", tmp_path / "p.json").code == 0
    page = read_page((tmp_path / "p.html").read_text(encoding="utf-8"))
    document = json.loads((tmp_path / "p.json").read_text())
    assert page.document == document
    assert_numbers_equal(page, document)
    assert page.figures == dict.fromkeys([*PLOTS, *(["plot-truth"] if truth else [])], 1)
    assert document["audit"]["verdict"] in page.text


def test_one_trace_a_group(run, single, tmp_path, read_page, assert_numbers_equal):
    run("audit", single, "--map", "value=value", "--html", tmp_path / "p.html")
    page = read_page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert_numbers_equal(page, page.document)
    assert page.figures == dict.fromkeys([*PLOTS, "plot-truth"], 1)
    assert "every group has one trace" in page.text


def test_needs_nothing_else(report, read_page):
    text = render(report)
    page = read_page(text)
    for tag, name, target in page.links:
        local = target.startswith(("#", "data:,"))
        assert local or (tag == "a" and target.startswith("https://arxiv.org/abs/")), (tag, name, target)
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert set(page.scripts) == {"kernadv-audit"}


def test_ids_are_unique_and_found(report, read_page):
    text = render(report)
    page = read_page(text)
    assert len(page.ids) == len(set(page.ids))
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | {t[1:] for _, _, t in page.links if t.startswith("#")}
    assert used <= set(page.ids)


def test_same_report_same_page(report):
    assert render(report) == render(report)


def test_colours_are_those_of_the_page(report):
    text = render(report)
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-fA-F]{6}\b", drawings) == []
    variables = set(re.findall(r"var\((--[a-z-]+)\)", text))
    light, dark = re.findall(r":root \{(.*?)\}", text, flags=re.DOTALL)
    assert variables <= set(re.findall(r"(--[a-z-]+):", light))
    for name in variables - {"--sans", "--mono"}:
        assert f"{name}:" in dark


def test_hostile_names_are_text(report, read_page):
    hostile = "</script><script>alert(1)</script><b>&amp;\"'.csv"
    changed = report._replace(
        source=hostile, audit=report.audit.__class__(**{**vars(report.audit), "notes": [hostile]})
    )
    page = read_page(render(changed))
    assert page.document["source"] == hostile
    assert page.document["audit"]["notes"] == [hostile]
    assert set(page.scripts) == {"kernadv-audit"}
    assert page.text.count(hostile) == 3


@pytest.mark.parametrize(
    ("bandwidth", "code"),
    [("kae w=inf", "Steps(float('inf'))"), ("kae h=0.5", ".kae(h=0.5)"), ("kae w=40", "Steps(40)")],
)
def test_code_of_the_recommendation_runs(report, bandwidth, code):
    from kernadv.report._wording import usage

    beaten = [
        replace(s, mse=s.mse and s.mse._replace(estimate=9.0), excess=s.excess._replace(estimate=9.0))
        if s.name == "kernadv" else s
        for s in report.audit.findings
    ]  # fmt: skip
    best = replace(report.audit, best=bandwidth, findings=beaten)
    lines = usage(report._replace(audit=best, kernel="gaussian"))
    assert code.removesuffix(")") in lines
    names = {"prompt_ids": ["a", "a", "b"], "rewards": [1.0, 0.0, 1.0], "step": 1}
    exec(lines, names)
    assert names["estimator"].kernel.name == "gaussian"
    assert f"[{bandwidth.removeprefix('kae ')}]" == f"[{names['estimator'].bandwidth.label}]"
    assert len(names["advantages"]) == 3


def test_the_default_estimator_is_recommended_where_its_error_is_smallest(report):
    from kernadv.report._wording import usage

    best = replace(report.audit, best="zero")
    assert "KernelValueEstimator()" in usage(report._replace(audit=best))
