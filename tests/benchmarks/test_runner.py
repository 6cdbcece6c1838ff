"""The runner: rounds in turn, medians, verdicts, exit status, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import __main__ as runner
from tests.benchmarks.findings import Findings, Goal, Table, figure, missed
from tests.benchmarks.options import Options
from tests.benchmarks.page import BEGIN, END, InvalidPage, rewritten
from tests.benchmarks.rounds import Times, interleaved


class Clock:
    """A clock that works move by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def done() -> None:
            self.now += seconds
            self.calls.append(name)

        return done


def test_rounds_interleave_after_a_warm_call() -> None:
    clock = Clock()
    works = {"a": clock.work("a", 1.0), "b": clock.work("b", 3.0)}
    times = interleaved(works, rounds=2, series=2, clock=clock)
    # One call to be warm and one to see how long it takes, then in turn.
    assert clock.calls == ["a", "a", "b", "b"] + ["a", "b"] * 4
    assert times.series == {"a": [[1.0, 1.0]] * 2, "b": [[3.0, 3.0]] * 2}
    assert times.ratio("b", "a") == 3.0


def test_a_short_work_is_repeated_within_its_turn() -> None:
    clock = Clock()
    times = interleaved({"a": clock.work("a", 0.01)}, rounds=1, clock=clock)
    assert len(clock.calls) == 2 + 5
    assert times.median("a") == pytest.approx(0.01)


def test_ratios_of_series() -> None:
    times = Times({"slow": [[8.0, 9.0, 90.0], [4.0]], "fast": [[1.0], [1.0, 2.0, 3.0]]})
    assert times.best_ratio("slow", "fast") == 9.0
    assert times.least_ratio("slow", "fast") == 2.0


@pytest.mark.parametrize(
    ("goal", "met", "verdict"),
    [
        (Goal("a", "at least", 15, 15.0), True, "met"),
        (Goal("a", "at least", 15, 14.9), False, "MISSED"),
        (Goal("a", "at most", 2.5, 2.6), False, "MISSED"),
        (Goal("a", "at most", 0, 0.0), True, "met"),
        (Goal("a", "at most", 2.5, 2.6, judged=False), None, "cut sizes, not judged"),
        (Goal("a", "at least", 2.5, None, why="no vectorbt"), None, "no vectorbt"),
    ],
)
def test_verdicts(goal: Goal, met: bool | None, verdict: str) -> None:
    assert (goal.met, goal.verdict) == (met, verdict)
    assert missed([goal]) == ([goal] if met is False else [])
    assert json.dumps(goal.record(), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_345.6, "12 346"), (0.012345, "0.0123"), (1_000_000, "1 000 000"), (None, "–"), (0.0, "0")],
)
def test_figures(value: object, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(("measured", "status"), [(20.0, 0), (10.0, 1)])
def test_check_decides_the_exit_status(
    measured: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table("Speed", ("mode", "variants/s"), [("score", 123_456.0)], "a note [with brackets]")
    found = Findings("w2", [table], [Goal("W2: Stage A", "at least", 15, measured)])
    monkeypatch.setattr(runner, "section", lambda name, options: found)
    screen, file = StringIO(), tmp_path / "out.json"
    console = Console(file=screen, width=120)
    options = Options((1, 2), True, print)
    keep = runner.Keep(options, file, None)
    assert runner.run(["w2"], options, console, keep, check=True) == status
    assert runner.run(["w2"], options, console, keep, check=False) == 0
    shown = screen.getvalue()
    assert "123 456" in shown
    assert "[with brackets]" in shown
    assert ("MISSED" in shown) == bool(status)
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["machine"]["cores"] >= 1
    section = document["sections"]["w2"]
    assert section["tables"][0]["rows"] == [{"mode": "score", "variants/s": 123_456.0}]
    assert section["goals"][0]["met"] is (status == 0)


def test_a_page_and_a_file_keep_earlier_sections(tmp_path: Path) -> None:
    file, page = tmp_path / "deep" / "out.json", tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    options = Options((1,), False, print)
    for name, measured in (("w3", 1.0), ("w2", 20.0)):
        table = Table(f"Speed of {name}", ("mode", "ratio"), [("a|b", 1234.5)], "a note")
        found = Findings(name, [table], [Goal(f"{name} fast", "at least", 15, measured)])
        runner.Keep(options, file, page).add(found, 1.0)
    assert list(json.loads(file.read_text(encoding="utf-8"))["sections"]) == ["w2", "w3"]
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text
    assert "| w2 fast | at least 15 × | 20 × | met |" in text
    assert "| w3 fast | at least 15 × | 1 × | MISSED |" in text
    assert "| mode | ratio |\n| --- | ---: |\n| a\\|b | 1 234 |\n\nA note." in text
    with pytest.raises(InvalidPage, match="BEGIN MEASURED"):
        rewritten("# No markers", {"sections": {}})


def test_a_section_with_markers_of_its_own_leaves_the_others_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    own = [marker.replace(" -->", " live -->") for marker in (BEGIN, END)]
    page.write_text(f"{BEGIN}\nkept\n{END}\n{own[0]}\nold\n{own[1]}\nafter\n", encoding="utf-8")
    options = Options((1,), False, print)
    live = Findings("live", [Table("Speed of live", ("ratio",), [(2.0,)])])
    runner.Keep(options, None, page).add(live, 1.0)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"{BEGIN}\nkept\n{END}\n{own[0]}\n\nMeasured on: ")
    assert "old" not in text
    assert text.endswith(f"{own[1]}\nafter\n")
    both = runner.Keep(options, None, page)
    both.add(Findings("w2", [Table("Speed of w2", ("ratio",), [(1.0,)])]), 1.0)
    both.add(live, 1.0)
    general, _, of_live = page.read_text(encoding="utf-8").partition(own[0])
    assert "kept" not in general
    assert ("Speed of w2" in general, "Speed of live" in general) == (True, False)
    assert ("Speed of w2" in of_live, "Speed of live" in of_live) == (False, True)


@pytest.mark.parametrize("line", [["nothing"], ["w2", "--threads", "0"], ["--threads", "two"]])
def test_a_wrong_line_is_refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        runner.main(line)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_peers_without_an_environment_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROEHUB_PEERS_PYTHON", raising=False)
    found = runner.section("peers", Options((1,), True, print))
    assert [goal.met for goal in found.goals] == [None, None]
    assert "ROEHUB_PEERS_PYTHON" in found.goals[0].verdict
    assert {row[-1] for row in found.tables[0].rows} == {found.goals[0].verdict}
