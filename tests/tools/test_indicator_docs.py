"""The page of indicators and its pictures: complete, up to date, and showing what is voted."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import pytest

from compute.indicators.definition import FAMILY_MEANINGS
from compute.indicators.registry import definition, ids, module
from compute.indicators.series import BarSeries
from compute.rules import reference_series
from tests.compute.ballot import codes
from tools.docs import generate_indicator_docs
from tools.docs.generate_indicator_docs import PAGE, PICTURES, drift, files, main
from tools.docs.indicator_example import SHOWN_BARS, chosen, example, votes
from tools.docs.indicator_page import plain
from tools.docs.indicator_panels import Curve, Panel, panels
from tools.docs.indicator_picture import compact, line_path, number, picture, runs

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"
VOTING = [name for name in ids() if definition(name).output().rule]


@pytest.fixture(scope="module")
def wanted() -> dict[PurePosixPath, str]:
    return files()


def sections(page: str) -> dict[str, str]:
    """Text of each indicator's part of the page."""
    parts = re.split(r"^###? (.+)\n", page, flags=re.MULTILINE)
    return {name: text for name, text in zip(parts[1::2], parts[2::2], strict=True) if "." in name}


def classes(svg: str, pattern: str) -> list[str]:
    """The path of every element whose class matches."""
    root = ElementTree.fromstring(svg)
    return [
        node.get("d", "")
        for node in root.iter(f"{SVG}path")
        if re.fullmatch(pattern, node.get("class", ""))
    ]


def test_the_committed_files_are_those_of_the_definitions(
    wanted: dict[PurePosixPath, str],
) -> None:
    assert drift(ROOT, wanted) == {}


def test_every_indicator_has_a_section_and_a_picture(wanted: dict[PurePosixPath, str]) -> None:
    found = sections(wanted[PAGE])
    assert sorted(found) == list(ids())
    assert set(wanted) == {PAGE, *(PICTURES / f"{name}.svg" for name in ids())}
    for name, text in found.items():
        known = definition(name)
        assert f"](indicators/{name}.svg)" in text
        assert "**TA-Lib**" in text
        for word in (*known.axes, *(output.name for output in known.outputs)):
            assert f"`{word}`" in text
        for param in known.params:
            row = f"| {param.hard_min} | {param.hard_max} | {param.step} | {param.default} |"
            assert f"| `{param.name}` {row}" in text


def test_the_page_tells_the_contents_and_every_rule(wanted: dict[PurePosixPath, str]) -> None:
    page = wanted[PAGE]
    for name in ids():
        assert f"| [{name}](#{name.replace('.', '')}) |" in page
    for family in FAMILY_MEANINGS:
        assert f"| `{family}` | " in page


def test_outputs_say_how_they_vote(wanted: dict[PurePosixPath, str]) -> None:
    found = sections(wanted[PAGE])
    link = "(#how-an-output-votes)"
    vortex = (
        f"| `vi_minus` | [`threshold_centered`]{link}, inverted: SHORT above 1 + abs_threshold,"
        " LONG below 1 - abs_threshold | "
    )
    assert vortex + "`abs_threshold` 0.0 to 0.3 by 0.02 |" in found["trend.vortex"]
    assert "| `pivot_low` | cannot vote | – |" in found["structure.pivots"]
    pivots = f"[`pivot_events`]{link}, LONG read from `pivot_low`, SHORT from `pivot_high` |"
    assert pivots in found["structure.pivots"]
    assert "A low strictly below all of `left` bars" in found["structure.pivot_low"]
    assert f"[`compare_price_to_output`]{link}, source |" in found["ma.sma"]
    assert "- **First value:** bar 19; **settled** after 19 bars" in found["ma.sma"]
    assert "**Only combinations with** `accel_start` ≤ `accel_max`" in found["trend.psar"]


@pytest.mark.parametrize("name", ids())
def test_a_picture_is_small_well_formed_and_refers_to_nothing(
    wanted: dict[PurePosixPath, str], name: str
) -> None:
    text = wanted[PICTURES / f"{name}.svg"]
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.get("width") == "720"
    assert 220 <= int(root.get("height", "0")) <= 380
    assert len(text.encode()) <= 25_000
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == f"{definition(name).title} ({name})"
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"href|url\(|@import|<script|<image|https?:", text.replace(SVG[1:-1], ""))
    assert "nan" not in "".join(classes(text, ".*"))


@pytest.mark.parametrize("name", ids())
def test_every_output_is_drawn_inside_the_picture(
    wanted: dict[PurePosixPath, str], name: str
) -> None:
    text = wanted[PICTURES / f"{name}.svg"]
    drawn = classes(text, r"[oth] [oth]\d( p)?")
    assert len(drawn) == len(definition(name).outputs)
    height = int(ElementTree.fromstring(text).get("height", "0"))
    for path in classes(text, r"o o\d( p)?"):
        points = [float(value) for value in re.findall(r"[\d.]+", re.sub(r"h4", "", path))]
        if "h4" not in path:
            assert 12 <= min(points[::2]) <= max(points[::2]) <= 652
            assert 40 <= min(points[1::2]) <= max(points[1::2]) <= height


@pytest.mark.parametrize("name", VOTING)
def test_votes_follow_the_words_of_the_rule(name: str) -> None:
    shown = example(module(name))
    known = shown.definition
    rule = known.output().rule
    assert rule is not None
    source = str(shown.params.get("source", ""))
    series = shown.series
    expected = codes(
        rule.family, shown.outputs[known.primary], dict(shown.signals),
        reference=reference_series(rule, series, source), opened=series.open, closed=series.close,
        low_output=shown.outputs.get(rule.long_output or ""), inverted=rule.inverted,
    )  # fmt: skip
    found = votes(name, rule, known.primary, shown.signals, series, shown.outputs, source)
    assert found.tolist() == expected.tolist()
    assert set(shown.votes.tolist()) >= {1, -1}, "a picture without votes of both sides says little"


def test_votes_of_a_small_case() -> None:
    rows = np.array([29.9, 30.0, 30.1, np.nan, 69.9, 70.0], np.float32)
    price = np.ones(6, np.float32)
    series = BarSeries(price, price, price, price, price)
    rule = definition("momentum.rsi").output().rule
    assert rule is not None
    found = votes("momentum.rsi", rule, "rsi", chosen(rule), series, {"rsi": rows}, "close")
    assert found.tolist() == [1, 1, 0, 0, 0, -1]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("momentum.rsi", [30, 70]),
        ("momentum.stoch", [20, 80]),
        ("momentum.williams_r", [-80, -20]),
        ("volume.cmf", [0.15, -0.15]),
        ("volume.obv", [-3, -3]),
        ("ma.sma", []),
    ],
)
def test_the_middle_of_the_proposed_values_is_shown(name: str, values: list[float]) -> None:
    rule = definition(name).output().rule
    assert rule is not None
    assert list(chosen(rule).values()) == values


@pytest.mark.parametrize(
    ("name", "over", "below"),
    [
        ("ma.sma", ["value"], []),
        ("momentum.macd", [], [["macd", "signal", "hist"]]),
        ("trend.supertrend", ["supertrend"], [["supertrend_dir"]]),
        ("structure.pivots", ["pivot_high", "pivot_low"], []),
        ("volume.volume_sma", [], [["volume_sma"]]),
        (
            "structure.candle_stats",
            [],
            [
                ["body", "range", "upper_wick", "lower_wick"],
                ["body_pct", "upper_wick_pct", "lower_wick_pct"],
            ],
        ),
    ],
)
def test_an_output_stands_where_its_scale_is(
    name: str, over: list[str], below: list[list[str]]
) -> None:
    price, others = panels(example(module(name)))
    assert [curve.name for curve in price.curves] == over
    assert [[curve.name for curve in panel.curves] for panel in others] == below


def test_the_levels_of_a_vote_lie_inside_their_panel() -> None:
    panel = panels(example(module("momentum.ultimate")))[1][0]
    assert panel.levels == (30, 70)
    assert panel.low <= 30 < 70 <= panel.high


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ("line", "M14 114M22 14 26 64"),
        ("dots", "M14 114h0M22 14h0M26 64h0"),
        ("steps", "M12 114V114h4M20 14V14h4V64h4"),
    ],
)
def test_a_missing_value_breaks_a_curve(form: str, path: str) -> None:
    curve = Curve("x", np.array([1, np.nan, 3, 2], np.float32), 0, form, True)
    panel = Panel((curve,), (), 1.0, 3.0)
    assert line_path(curve, panel, top=10, size=108) == path


def test_shading_covers_four_pixels_for_each_vote() -> None:
    shown = example(module("ma.sma"))
    text = picture(shown)
    assert shown.votes.size == SHOWN_BARS
    for css, side in (("L", 1), ("S", -1)):
        for path in classes(text, f"(a )?{css}"):
            widths = [int(width) for width in re.findall(r"h(\d+)", path)]
            assert sum(widths) == 4 * np.sum(shown.votes == side)
        first = re.match(r"M(\d+) ", classes(text, css)[0])
        assert first
        assert int(first[1]) == 12 + 4 * int(np.argmax(shown.votes == side))


def test_an_output_without_a_rule_is_not_shaded(wanted: dict[PurePosixPath, str]) -> None:
    text = wanted[PICTURES / "structure.pivot_high.svg"]
    assert "pivot_high cannot vote" in text
    assert not classes(text, "(a )?[LS]")


@pytest.mark.parametrize(
    ("value", "span", "text"),
    [
        (1_234_567, 1e6, "1.2M"),
        (-2.5e9, 1e9, "-2.5B"),
        (20_145.3, 4e3, "20.1k"),
        (1_940.2, 2_600, "1940"),
        (0.139, 990, "0"),
        (30, 62, "30"),
        (18.84, 62.4, "18.8"),
        (-0.0123, 0.05, "-0.0123"),
        (4.56e-7, 1e-6, "4.6e-07"),
    ],
)
def test_a_label_is_short(value: float, span: float, text: str) -> None:
    assert compact(value, span) == text


def test_numbers_and_runs() -> None:
    assert [number(value) for value in (3.04, 3.06, -0.01, 12.0)] == ["3", "3.1", "0", "12"]
    assert runs([True, True, False, True]) == [(0, 2), (3, 4)]
    assert runs([False]) == []


def test_markup_in_a_formula_stands_for_itself() -> None:
    assert plain("a * b[1] of `a * b`, _x, y_z |h|") == (
        r"a \* b\[1\] of `a * b`, \_x, y_z \|h\|"
    )  # fmt: skip


def test_check_names_what_is_wrong_and_the_next_run_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {PAGE: "# Page\n", PICTURES / "a.svg": "<svg/>\n", PICTURES / "b.svg": "<svg/>\n"}
    monkeypatch.setattr(generate_indicator_docs, "files", lambda: made)
    (tmp_path / PICTURES).mkdir(parents=True)
    (tmp_path / PAGE).write_text("# Page\n")
    (tmp_path / PICTURES / "a.svg").write_text("old\n")
    (tmp_path / PICTURES / "gone.svg").write_text("<svg/>\n")
    root = ["--repo-root", str(tmp_path)]

    assert main(["--check", *root]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ERROR: docs/indicators/a.svg is out-of-date.",
        "ERROR: docs/indicators/b.svg is missing.",
        "ERROR: docs/indicators/gone.svg belongs to no indicator.",
        "Run `make docs` and commit the result.",
    ]
    assert (tmp_path / PICTURES / "a.svg").read_text() == "old\n"

    assert main(root) == 0
    assert sorted(file.name for file in (tmp_path / PICTURES).iterdir()) == ["a.svg", "b.svg"]
    assert main(["--check", *root]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "OK: docs/indicators.md and 2 pictures are up-to-date."
    )


def test_outside_a_checkout_it_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--repo-root", str(tmp_path)]) == 1
    assert "repository's root" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
