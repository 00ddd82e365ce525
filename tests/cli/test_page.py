"""The page: its numbers are those of the JSON, it needs nothing else, and nothing of the log can break it."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from kernadv.auditing import Check, Interval, audit
from kernadv.logs import read_log
from kernadv.report.page import render

CLOCKS = ["plot-bandwidth-relative", "plot-bandwidth-steps", "plot-bandwidth-visits"]
PLOTS = [*CLOCKS, "plot-strata", "plot-gaps", "plot-drift"]


@pytest.fixture
def report(log):
    found = read_log(log, columns={"value": "value"})
    return replace(audit(found, draws=60, notes=["a note"]), source="log.parquet")


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
    check = Check("one id a prompt", "suspect", hostile, hostile)
    changed = replace(report, source=hostile, notes=[hostile], checks=[check])
    page = read_page(render(changed))
    assert page.document["audit"]["source"] == hostile
    assert page.document["audit"]["notes"] == [hostile]
    assert set(page.scripts) == {"kernadv-audit"}
    assert page.text.count(hostile) == 7  # title, heading, note, and the check at the top and in its list


def test_control_characters_are_written_as_escapes(report):
    changed = replace(report, source="a\x1b[31m.csv", notes=["\x07bell", "\u202eback"])
    page = render(changed)
    assert not set(page) & set("\x1b\x07\u202e")
    assert "a\\x1b[31m.csv" in page


def test_no_script_of_a_log_could_run(report, read_page):
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', render(report))
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_checks_stand_before_the_headline_and_the_table(report):
    check = Check("steps in order", "suspect", "The steps go back.", "Do something.")
    page = render(replace(report, checks=[check]))
    at = [
        page.index(text) for text in ("1 of 1 checks failed", "The steps go back.", "a note", 'id="verdict"', "<table>")
    ]
    assert at == sorted(at)


def test_the_row_of_the_default_is_the_advice(report):
    page = render(report)
    (row,) = re.findall(r'<tr class="advised">(.*?)</tr>', page, flags=re.DOTALL)
    assert "kernadv" in row
    assert "default" in row
    assert page.count("best KAE, in hindsight") == 1


@pytest.mark.parametrize(
    ("bandwidth", "code"),
    [("kae w=inf", "Steps(float('inf'))"), ("kae h=0.5", ".kae(h=0.5)"), ("kae w=40", "Steps(40)")],
)
def test_code_of_the_recommendation_runs(report, bandwidth, code):
    from kernadv.report._wording import usage

    lines = usage(replace(report, advised=bandwidth, kernel="gaussian"))
    assert code.removesuffix(")") in lines
    names = {"prompt_ids": ["a", "a", "b"], "rewards": [1.0, 0.0, 1.0], "step": 1}
    exec(lines, names)
    assert names["estimator"].kernel.name == "gaussian"
    assert f"[{bandwidth.removeprefix('kae ')}]" == f"[{names['estimator'].bandwidth.label}]"
    assert len(names["advantages"]) == 3


def test_the_code_of_the_page_runs(report):
    (code,) = re.findall(r"<pre><code>(.*?)</code></pre>", render(report), flags=re.DOTALL)
    names = {"prompt_ids": ["a", "a", "b"], "rewards": [1.0, 0.0, 1.0], "step": 1}
    exec(html.unescape(code), names)
    assert len(names["advantages"]) == 3


def test_plots_say_in_words_what_they_show(report):
    spoken = [html.unescape(text) for text in re.findall(r'<svg role="img" aria-label="([^"]*)"', render(report))]
    assert len(spoken) == len(PLOTS) + 1
    relative, _, _, strata, gaps, drift, truth = spoken
    shown = [finding for finding in report.findings if finding.clock == "relative"]
    assert re.findall(r"h=([\d.]+): ([\d.e-]+)[,.]", relative) == [
        (f"{finding.bandwidth:g}", f"{finding.mse.estimate:.3g}") for finding in shown
    ]
    assert all(f"kernadv {stratum['mse']['kernadv']:.3g}" in strata for stratum in report.strata)
    assert "2 to 3 steps: 100%" in gaps
    assert f"from {report.drift[0]['mean']:.3g} at step 1 to {report.drift[-1]['mean']:.3g} at step 40" in drift
    assert f"true {report.finding('rloo').true_mse:.3g}" in truth


def test_nothing_is_said_of_errors_where_there_is_no_signal(frame):
    page = render(audit(frame.with_columns(reward=0.0), draws=60))
    assert "No group has a signal" in page
    assert "value MSE" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'<figure id="([^"]*)"', page) == ["plot-gaps", "plot-drift"]


def test_without_intervals_there_are_no_brackets(frame):
    few = audit(frame.filter(frame["prompt_id"] < 2), draws=60)
    assert np.isnan(few.finding("kernadv").mse.low)
    assert '<span class="interval">' not in render(few)


def test_the_default_estimator_is_recommended_unless_a_bandwidth_is_better(report):
    from kernadv.report._wording import usage

    assert "KernelValueEstimator()" in usage(replace(report, advised="kernadv"))
    assert "KernelValueEstimator()" in usage(report)


def test_lines_do_not_lead_to_estimates_below_the_axis(report):
    from matplotlib.figure import Figure

    from kernadv.report.plots import plots

    first = next(finding.name for finding in report.findings if finding.clock == "steps")
    negative = [
        replace(finding, mse=finding.mse._replace(estimate=-0.001)) if finding.name == first else finding
        for finding in report.findings
    ]
    (plot,) = [plot for plot in plots(replace(report, findings=negative)) if plot.name == "bandwidth-steps"]
    ax = Figure().add_subplot()
    plot.draw(ax)
    (line,) = [line for line in ax.lines if line.get_label() == "KAE"]
    assert np.isnan(line.get_ydata()[0])
    assert np.isfinite(line.get_ydata()[1:]).all()
    below = [line for line in ax.lines if line.get_marker() == 7]
    assert [np.isfinite(line.get_ydata()).sum() for line in below] == [1]


@pytest.mark.parametrize("ends", [(-3.0, -4.0, -2.5), (-1.2, -2.7, -0.5), (-1.2, -1.7, -0.5), (0.8, 0.7, 0.9)])
def test_no_percentage_is_below_minus_200(report, ends):
    changed = [
        replace(finding, vs_batch=Interval(*ends)) if finding.name == "rloo" else finding for finding in report.findings
    ]
    row = re.sub(r"<[^>]*>", "", render(replace(report, findings=changed)).partition(">RLOO<")[2].partition("</tr>")[0])
    estimate, low, high = ends
    as_factor = f"{1 - estimate:.1f} times [{1 - high:.1f}, {1 - low:.1f}]"
    as_share = f"{estimate:.0%} [{low:.0%}, {high:.0%}]".replace("-", "−")
    assert (as_factor in row, as_share in row) == ((True, False) if low < -2 else (False, True))
