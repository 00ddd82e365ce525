"""The page in a real browser: it renders without complaint and shows the numbers of the JSON."""

import json
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]


@pytest.fixture
def browse(tmp_path):
    """Load a page in a fresh headless browser: its document as text, and the lines of its console."""

    def load(path):
        quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        logging = ["--enable-logging=stderr", "--v=0"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *quiet, profile, *logging, "--dump-dom"]
        done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return load


def test_console_is_heard(browse, tmp_path):
    page = tmp_path / "loud.html"
    page.write_text('<!DOCTYPE html><link rel="icon" href="data:,"><script>console.error("heard")</script>')
    _, console = browse(page)
    assert len(console) == 1
    assert "heard" in console[0]


@pytest.mark.parametrize("kind", ["log", "single"])
def test_page_in_a_browser(kind, request, run, tmp_path, browse, read_page, assert_numbers_equal):
    log = request.getfixturevalue(kind)
    outputs = ["--html", tmp_path / "p.html", "--json", tmp_path / "p.json"]
    assert run("audit", log, "--map", "value=value", *outputs).code == 0
    dom, console = browse(tmp_path / "p.html")
    assert console == []
    page = read_page(dom)
    document = json.loads((tmp_path / "p.json").read_text())
    assert page.document == document
    assert_numbers_equal(page, document)
    assert len(page.figures) == 7
    assert set(page.figures.values()) == {1}
