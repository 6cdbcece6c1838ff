from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from compute.report.document import Document
from compute.report.facts import sections
from compute.report.page import json_for_html, report_page
from compute.report.rows import METRICS
from tests.compute.report.sample import document

ATTACK = "</script><script>window.broken=1</script><img src=x onerror=window.broken=1>{{data}}"


class Page(HTMLParser):
    """Tags with attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open and self.tags[-1][0] in ("script", "style", "title"):
            self.inside.append((self.tags[-1][0], data))

    def data(self) -> dict[str, Any]:
        return json.loads(next(text for tag, text in self.inside if tag == "script"))


@pytest.fixture(scope="module")
def small() -> Document:
    return document(bars=500, fast=(4, 8, 12), slow=(20, 30), top=6, detailed=2)


def test_asks_for_nothing_outside_itself(small: Document) -> None:
    text = report_page(small)
    page = Page(text)
    addresses = [a[n] for _, a in page.tags for n in ("src", "href", "action") if n in a]
    assert addresses == ["data:,"]
    assert not re.search(r"https?://|url\(|@import|\bfetch|XMLHttp|sendBeacon|import\(", text)
    assert "{{" not in text.replace("{{data}}", "")


def test_policy_names_the_very_script_and_style(small: Document) -> None:
    page = Page(report_page(small))
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for tag in ("script", "style"):
        body = [text for name, text in page.inside if name == tag][-1]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_data_comes_through_unchanged(small: Document) -> None:
    data = Page(report_page(small)).data()
    assert data["curves"] == list(small["curves"])
    assert data["surface"] == small["surface"]
    assert data["metrics"] == list(METRICS)
    assert [len(rows) for rows in data["reports"]] == [25] * 6
    assert data["holdout_reports"] == []


def test_hostile_text_stays_text() -> None:
    hostile = document(bars=200, fast=(4,), slow=(20, 30), top=2, detailed=1, symbol=ATTACK)
    result = dict(hostile["result"])
    result["variants"][0]["payload"]["indicator_selections"][0]["indicator_id"] = ATTACK
    result["engine_version"] = ATTACK
    calm = Page(report_page(document(bars=200, fast=(4,), slow=(20, 30), top=2, detailed=1)))
    page = Page(report_page(hostile))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    market = page.data()["sections"][0]["facts"][0]
    assert market["value"].startswith("</script>")
    title = "".join(text for tag, text in page.inside if tag == "title")
    assert title.startswith("</script>")


def test_json_cannot_close_its_element() -> None:
    hostile = "</script><!--&\u2028"
    text = json_for_html({"a": hostile, "b": [math.nan, math.inf, 1.5], "c": (1, None)})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"a": hostile, "b": [None, None, 1.5], "c": [1, None]}


@pytest.mark.parametrize("generated", [True, False])
def test_synthetic_candles_are_marked(small: Document, generated: bool) -> None:
    marked = Document(**{**small, "generated": generated})
    assert ("<strong>SYNTHETIC DATA.</strong>" in report_page(marked)) is generated
    source = next(f for s in sections(marked) for f in s["facts"] if f["label"] == "Source")
    assert ("SYNTHETIC" in source["value"]) is generated


def test_cautions_come_first_and_are_escaped(small: Document) -> None:
    hostile = {"code": "unsettled", "message": "the first <b>9</b> bars"}
    page = report_page(Document(**{**small, "result": {**small["result"], "cautions": [hostile]}}))
    assert "<strong>CAUTION.</strong> The first &lt;b&gt;9&lt;/b&gt; bars.</p>" in page
    assert page.index("CAUTION") < page.index("<main>")


def test_summary_says_what_was_run(small: Document) -> None:
    found = {s["title"]: {f["label"]: f["value"] for f in s["facts"]} for s in sections(small)}
    assert list(found) == ["Market", "Candles", "Plan", "Ranking", "Account and costs", "Run"]
    assert found["Market"]["Instrument"] == "BTCUSDT, Binance spot"
    assert found["Market"]["From"] == "2025-01-01 00:15 UTC"
    assert found["Candles"]["Missing"] == "37"
    assert found["Plan"]["Stage A variants"] == "12"
    assert found["Plan"]["Estimated memory"] == "64.0 MiB"
    assert found["Account and costs"]["Fee"] == "0.075 %"
    assert found["Ranking"]["Primary metric"] == "total return pct"
    assert found["Run"]["Stage A time"] == "1.24 s"
    assert found["Run"]["Planes time"] == "340 ms"


def test_holdout_is_shown_beside_the_ranked_part() -> None:
    held = document(bars=300, fast=(4,), slow=(20, 30), top=2, detailed=1, holdout=True)
    data = Page(report_page(held)).data()
    assert [len(rows) for rows in data["holdout_reports"]] == [25, 25]
    assert "holdout.total_return_pct" in [c["name"] for c in data["table"]["columns"]]
    told = {row["metric"]: row["value"] for row in later(held)["report"]["rows"]}
    assert data["holdout_hold_pct"] == float(told["Benchmark Return [%]"])
    # A result without reports says nothing of it.
    later(held)["report"] = None
    assert Page(report_page(held)).data()["holdout_hold_pct"] is None


def test_a_row_of_zero_is_no_row_without_a_value() -> None:
    made = document(bars=300, fast=(4,), slow=(20, 30), top=2, detailed=1)
    rows = made["result"]["variants"][0]["report"]["rows"]
    rows[METRICS.index("Num. Trades")]["value"] = 0
    rows[METRICS.index("SQN")]["value"] = None
    told = Page(report_page(made)).data()["reports"][0]
    assert told[METRICS.index("Num. Trades")] == ["0", "0"]
    assert told[METRICS.index("SQN")] == ["N/A", "N/A"]


def later(held: Document) -> dict[str, Any]:
    return held["result"]["variants"][0]["holdout"]


def test_nothing_ranked_and_nothing_kept_is_still_a_page(small: Document) -> None:
    result = {k: v for k, v in small["result"].items() if k in ("instrument_id", "timeframe")}
    bare = Document(
        **{**small, "result": result, "market": None, "curves": [], "surface": None,
           "surface_note": "too many variants"}
    )  # fmt: skip
    data = Page(report_page(bare)).data()
    assert data["table"]["rows"] == []
    assert data["surface"] is None
    assert data["surface_note"] == "too many variants"
    assert "<strong>NOTHING RANKED.</strong> No variant was ranked.</p>" in report_page(bare)


@pytest.mark.parametrize(
    ("most", "title", "words"),
    [
        (0, "NOTHING TRADES.", "No variant ever trades: thresholds are never reached"),
        (7, "NOTHING RANKED.", "ranking.min_trades is 1 000, the most that any variant has is 7"),
    ],
)
def test_why_nothing_is_ranked_comes_first(
    small: Document, most: int, title: str, words: str
) -> None:
    ranking = {**small["ranking"], "min_trades": 1_000}
    result = {**small["result"], "variants": [], "plan": {"most_trades": most}}
    page = report_page(Document(**{**small, "ranking": ranking, "result": result}))
    assert f"<strong>{title}</strong> No variant" in page
    assert words in page
    assert page.index(title) < page.index("<main>")


def test_settings_of_another_sizing_are_left_out(small: Document) -> None:
    execution = {"init_cash_quote": 1.0, "fixed_quote": 100.0, "safe_profit_percent": 30.0}
    shown = {}
    for sizing in ("all_in", "fixed_quote", "strategy_compound_profit_lock"):
        found = sections(Document(**{**small, "sizing_mode": sizing, "execution": execution}))
        account = next(s for s in found if s["title"] == "Account and costs")
        shown[sizing] = [fact["label"] for fact in account["facts"][2:]]
    assert shown == {
        "all_in": ["Init cash"],
        "fixed_quote": ["Init cash", "Fixed"],
        "strategy_compound_profit_lock": ["Init cash", "Safe profit"],
    }
