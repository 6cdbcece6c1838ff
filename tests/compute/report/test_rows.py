"""The 25 rows: the contract's worked table, golden tables, and each N/A rule on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compute.account import terms
from compute.bits import pack
from compute.replay import Replay, replay
from compute.report.format import table_md
from compute.report.rows import METRICS, Row, report_rows, rows_record
from tests.compute.report.sample import DAY_MS, Run, run

Make = Callable[..., Run | Replay]

GOLDEN = Path(__file__).parents[2] / "golden"
JAN_2_2026_MS = 1_767_312_000_000
HOUR_MS = 3_600_000

TRADE_ROWS = METRICS[13:21]
WORKED = """\
|Metric|Value|
|---|---|
|Start|2026-01-02 00:00:00.000+00:00|
|End|2026-01-12 00:00:00.000+00:00|
|Duration|10 days, 0:00:00|
|Init. Cash|10000|
|Total Profit|-886.45|
|Total Return [%]|-8.8645|
|Benchmark Return [%]|2|
|Position Coverage [%]|80|
|Max. Drawdown [%]|10.5191|
|Avg. Drawdown [%]|4.5075|
|Max. Drawdown Duration|7 days, 0:00:00|
|Avg. Drawdown Duration|7 days, 0:00:00|
|Num. Trades|3|
|Win Rate [%]|33.3333|
|Best Trade [%]|0.6982|
|Worst Trade [%]|-6.4981|
|Avg. Trade [%]|-3.0022|
|Max. Trade Duration|2 days, 0:00:00|
|Avg. Trade Duration|2 days, 0:00:00|
|Expectancy|-3.0022|
|SQN|-1.41331|
|Gross Exposure|0.8057|
|Sharpe Ratio|-2.81962|
|Sortino Ratio|-2.74527|
|Calmar Ratio|-9.27238|"""


def engine(
    closes: Sequence[float],
    signals: str,
    *,
    fee: float = 0.0,
    slip: float = 0.0,
    start: int = 0,
    first_close_ms: int = 0,
    bar_ms: int = DAY_MS,
) -> Replay:
    """The same run as `sample.run`, by the product's engine."""
    times = first_close_ms + bar_ms * np.arange(len(closes), dtype=np.int64)
    long, short = (pack(np.array([s == code for s in signals], bool)) for code in "LS")
    costs = terms(fee_pct=fee * 100, slippage_pct=slip * 100)
    return replay(np.array(closes, float), times, long, short, costs, start=start)


def table(made: Run | Replay, start_ms: int, end_ms: int, init: float = 10_000.0) -> str:
    return table_md(rows(made, start_ms, end_ms, init))


def rows(
    made: Run | Replay, start_ms: int = 0, end_ms: int = DAY_MS, init: float = 10_000.0
) -> list[Row]:
    return report_rows(
        made, made.trades, period_start_ms=start_ms, period_end_ms=end_ms, init_cash=init
    )


def texts(made: Run, init: float = 10_000.0) -> dict[str, str]:
    return {row.metric: row.text for row in rows(made, init=init)}


@pytest.mark.parametrize("make", [run, engine])
@pytest.mark.parametrize("start", [0, 50])
def test_worked_table(make: Make, start: int) -> None:
    made = make(
        [100, 102, 101, 98, 97, 99, 103, 101, 100, 102], "LLNNSSLLNN",
        fee=0.001, slip=0.0005, start=start, first_close_ms=JAN_2_2026_MS,
    )  # fmt: skip
    assert made.equity[-1] == pytest.approx(9113.547555379475, rel=1e-14)
    assert made.exposure.round(6).tolist() == [
        1.001502, 0.981845, 0.993067, 0, 1.001503, 1.02263, 1.001502, 1.021354, 1.033129, 0,
    ]  # fmt: skip
    assert table(made, JAN_2_2026_MS, JAN_2_2026_MS + 10 * DAY_MS) == WORKED


@pytest.mark.parametrize("make", [run, engine])
def test_golden_table_without_trades(make: Make) -> None:
    made = make([100, 101.5, 99, 104.25], "NNNN", first_close_ms=JAN_2_2026_MS)
    expected = (GOLDEN / "report_no_trades.txt").read_text(encoding="ascii")
    assert table(made, JAN_2_2026_MS, JAN_2_2026_MS + 4 * DAY_MS) == expected


@pytest.mark.parametrize("make", [run, engine])
def test_golden_table_with_trades(make: Make) -> None:
    closes = [
        20.0, 20.5, 21.25, 21.0, 20.25, 19.5, 19.75, 20.5, 21.5, 22.0, 21.75, 22.5, 23.25, 22.75,
        22.0, 21.25, 20.75, 21.5, 22.25, 23.0, 23.75, 23.5, 24.25, 24.0,
    ]  # fmt: skip
    signals = "NLLLSSSLLLLLLNSSNNLLLLLS"
    made = make(
        closes, signals, fee=0.00075, slip=0.0001,
        first_close_ms=JAN_2_2026_MS + 12 * HOUR_MS, bar_ms=12 * HOUR_MS,
    )  # fmt: skip
    expected = (GOLDEN / "report_trades.txt").read_text(encoding="ascii")
    assert len(made.trades.net) == 6
    assert table(made, JAN_2_2026_MS, JAN_2_2026_MS + 12 * DAY_MS) == expected


def test_rows_are_the_25_in_order_with_bare_values() -> None:
    found = rows(run([100, 110, 121, 100], "LLNN"))
    assert [row.metric for row in found] == list(METRICS)
    assert len(METRICS) == 25
    values = {row.metric: row.value for row in found}
    assert values["Duration"] == DAY_MS
    assert values["Num. Trades"] == 1
    assert values["Total Return [%]"] == pytest.approx(21.0)
    assert values["SQN"] is None
    assert rows_record(found)[5] == {"metric": "Total Return [%]", "value": "21"}


def test_without_trades_only_the_count_of_the_trade_rows_is_known() -> None:
    found = texts(run([100, 101, 102], "NNN"))
    assert found["Num. Trades"] == "0"
    assert {found[name] for name in TRADE_ROWS} == {"N/A"}
    assert found["Gross Exposure"] == "0"
    assert found["Position Coverage [%]"] == "0"


def test_without_a_drawdown_its_durations_are_unknown() -> None:
    found = texts(run([100, 101, 102, 103], "LLLL"))
    assert found["Max. Drawdown [%]"] == found["Avg. Drawdown [%]"] == "0"
    assert found["Max. Drawdown Duration"] == found["Avg. Drawdown Duration"] == "N/A"
    assert found["Calmar Ratio"] == "N/A"


def test_empty_slice() -> None:
    found = texts(run([], ""))
    unknown = {*METRICS[6:12], *METRICS[13:]}
    assert {name for name, text in found.items() if text == "N/A"} == unknown
    assert found["Total Profit"] == found["Total Return [%]"] == "0"
    assert found["Num. Trades"] == "0"


def test_benchmark_needs_a_positive_first_close() -> None:
    made = run([100, 101], "NN")
    made.close = np.array([0.0, 101.0])
    assert texts(made)["Benchmark Return [%]"] == "N/A"


@pytest.mark.parametrize("first", [0.0, -5.0, np.nan])
def test_a_peak_that_is_not_positive_makes_drawdown_unknown(first: float) -> None:
    made = run([100.0] * 5, "NNNNN")
    made.equity = np.array([first, 10.0, 5.0, 10.0, 12.0])
    found = texts(made)
    assert {found[name] for name in (*METRICS[8:12], "Calmar Ratio")} == {"N/A"}


def test_unknown_exposure_makes_its_mean_unknown() -> None:
    made = run([100, 110, 121], "LLN")
    made.exposure[1] = np.nan
    assert texts(made)["Gross Exposure"] == "N/A"


def test_ruin_shows_more_than_a_total_loss_and_no_ratios() -> None:
    found = texts(run([100, 250, 200, 300], "SNLN", init=1000.0), init=1000.0)
    assert found["Total Return [%]"] == "-150"
    assert found["Max. Drawdown [%]"] == "150"
    assert {found[name] for name in METRICS[22:]} == {"N/A"}


@pytest.mark.parametrize(
    ("equity", "known"),
    [
        ([100.0, 110.0], ""),  # one daily return
        ([100.0, 110.0, 105.0], "Sharpe Sortino Calmar"),
        ([100.0, 110.0, 0.0], ""),  # 1 + r is zero
        ([100.0, -5.0, 20.0], ""),  # a previous day is not positive
        ([1e-300, 1.0, 1e300], ""),  # annual growth overflows
        ([100.0, 100.0, 100.0], ""),  # nothing varies, nothing falls
        ([100.0, 110.0, 130.0], "Sharpe"),  # nothing falls
        ([100.0, 50.0, 25.0], "Sortino Calmar"),  # equal returns: no spread
    ],
)
def test_ratios(equity: list[float], known: str) -> None:
    made = run([100.0] * len(equity), "N" * len(equity))
    made.equity = np.array(equity)
    found = texts(made)
    names = {name.split()[0] for name in METRICS[22:] if found[name] != "N/A"}
    assert names == set(known.split())


def test_days_are_those_of_the_close_and_count_with_their_last_equity() -> None:
    # Closes at 12:00, 24:00 (the next day's first), 12:00, 24:00, ...: three days in six bars.
    hours = 12 * HOUR_MS
    made = run([100.0] * 5, "NNNNN", first_close_ms=hours, bar_ms=hours)
    made.equity = np.array([100.0, 3.0, 120.0, 7.0, 114.0])
    same = run([100.0] * 3, "NNN")
    same.equity = np.array([100.0, 120.0, 114.0])
    assert [texts(made)[name] for name in METRICS[22:24]] == [
        texts(same)[name] for name in METRICS[22:24]
    ]


@pytest.mark.parametrize(
    ("equity", "longest", "mean"),
    [
        ([10, 9, 10, 10, 8, 9, 10, 10], "2:00:00", "1:30:00"),
        ([10, 9, 8, 7], "2:00:00", "2:00:00"),  # open at the end
        ([10, 10, 9], "0:00:00", "0:00:00"),  # a single last bar
        ([10, 10 * (1 - 1e-13), 10], "N/A", "N/A"),  # rounding is no drawdown
        ([10, 9, 10, 9, 10, 9, 9, 10], "2:00:00", "1:20:00"),
    ],
)
def test_drawdown_durations(equity: list[float], longest: str, mean: str) -> None:
    made = run([100.0] * len(equity), "N" * len(equity), bar_ms=HOUR_MS)
    made.equity = np.array(equity, float)
    found = texts(made)
    assert found["Max. Drawdown Duration"] == longest
    assert found["Avg. Drawdown Duration"] == mean


def test_quality_number_needs_two_different_results() -> None:
    made = run([100, 110, 100, 100, 110, 100], "LNNLNN")
    assert texts(made)["Num. Trades"] == "2"
    assert texts(made)["SQN"] != "N/A"
    made.trades = replace(made.trades, net=np.array([5.0, 5.0]))
    assert texts(made)["SQN"] == "N/A"


def test_reversal_on_the_last_bar_is_two_trades() -> None:
    found = texts(run([100, 110, 121], "LLS", init=1000.0, fee=0.001), init=1000.0)
    assert found["Num. Trades"] == "2"
    assert found["Total Return [%]"] == "20.5374"
    assert found["Avg. Trade Duration"] == "1 day, 0:00:00"
