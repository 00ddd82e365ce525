"""The speed suites' table and the check of their ratios."""

import json

import pytest

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks import RESULTS
from benchmarks.speed import table
from benchmarks.speed.__main__ import main


def row(case, by, seconds, **beside):
    """A measurement as the suites keep it."""
    return {"group": case, "name": by, "extra_info": beside, "stats": {"median": seconds, "min": seconds}}


ROWS = [
    row("fit", "dense", 2.0, times=10),
    row("append", "kernadv", 0.0034, memory="1 GiB", target="< 5 ms"),
    row("fit", "kernadv, all threads", 0.02),
    row("fit", "kernadv, one thread", 0.03),
]


def test_table_has_ours_first_and_the_peers_beside_it():
    lines = table.page({"machine_info": {"cpu": "Z80"}, "benchmarks": ROWS}).splitlines()
    assert "cpu Z80" in lines[2]
    assert lines[6:] == [
        "| fit | kernadv, all threads | 20 ms |  |  |  |",
        "|  | kernadv, one thread | 30 ms | 1.5 |  |  |",
        "|  | dense | 20 s | 1000 |  |  |",
        "| append | kernadv | 3.4 ms |  | 1 GiB | < 5 ms |",
    ]


def test_ratios_are_checked_and_times_are_not():
    committed = table.ratios(ROWS)
    assert committed == {("fit", "dense"): pytest.approx(1000.0)}
    slow_machine = [{**r, "stats": {name: 7.0 * x for name, x in r["stats"].items()}} for r in ROWS]
    assert table.nearer(committed, table.ratios(slow_machine)) == []
    slower = [ROWS[0], *(row(r["group"], r["name"], 4 * r["stats"]["median"]) for r in ROWS[1:])]
    assert table.nearer(committed, table.ratios(slower)) == [
        "fit: dense takes 250 times as long as ours, in the results 1000"
    ]
    interrupted = [{**r, "stats": r["stats"] | {"median": 9.0}} for r in ROWS]
    assert table.ratios(interrupted) == committed
    threads_share_a_core = [*ROWS[:2], row("fit", "kernadv, all threads", 0.3), ROWS[3]]
    assert table.ratios(threads_share_a_core) == {("fit", "dense"): pytest.approx(20 / 0.03)}
    assert table.nearer(committed, {}) == ["no peer was measured: nothing could be compared"]


def test_the_command_compares_with_the_committed_ratios(tmp_path, monkeypatch):
    committed = json.loads((RESULTS / "speed.json").read_text())
    path = tmp_path / "new.json"
    monkeypatch.setattr("sys.argv", ["speed", "--check", str(path)])
    path.write_text(json.dumps(committed))
    main()
    for found in committed["benchmarks"]:
        if found["name"].startswith("kernadv"):
            found["stats"]["min"] *= 4.0
    path.write_text(json.dumps(committed))
    with pytest.raises(SystemExit, match="dense torch takes"):
        main()


def test_the_committed_table_is_that_of_the_committed_measurements():
    committed = json.loads((RESULTS / "speed.json").read_text())
    assert (RESULTS / "speed.md").read_text() == table.page(committed)
