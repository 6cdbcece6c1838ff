"""The execution contract's seventeen worked examples and its worked curve, as data.

A float is expected to the bit. A `Shown` is a number that the contract shortens (or a round one
that float64 only approaches, here padded with zeros): within one unit of its last digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

SIGNALS = {"L": 1, "S": -1, "N": 0}


@dataclass(frozen=True, slots=True)
class Shown:
    """A number as printed, with fewer digits than a float64 has."""

    text: str

    def matches(self, value: float) -> bool:
        printed = Decimal(self.text)
        unit = Decimal(1).scaleb(int(printed.as_tuple().exponent))
        return abs(Decimal(value) - printed) <= unit


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """One row of the contract: terms, closes, signals, and what must come out.

    `trades` are (direction, entry bar, exit bar, exit reason, other fields by record name).
    """

    number: int
    title: str
    terms: dict[str, Any]
    closes: tuple[float, ...]
    letters: str
    trades: tuple[tuple[str, int, int, str, dict[str, Any]], ...]
    equity: float | Shown
    return_pct: float | Shown
    balances: dict[str, float] = field(default_factory=dict)

    @property
    def signals(self) -> tuple[int, ...]:
        return tuple(SIGNALS[letter] for letter in self.letters.split())


def matches(expected: float | Shown, value: float) -> bool:
    """Whether `value` is the number the contract prints."""
    return expected.matches(value) if isinstance(expected, Shown) else value == expected


def _terms(direction_mode: str, sizing_mode: str = "all_in", **changed: Any) -> dict[str, Any]:
    return {
        "direction_mode": direction_mode,
        "sizing_mode": sizing_mode,
        "init_cash_quote": 1000.0,
        "fee_pct": 0.0,
        "slippage_pct": 0.0,
        "fixed_quote": 100.0,
        "safe_profit_percent": 30.0,
    } | changed


LOCK = "strategy_compound_profit_lock"
COSTS: dict[str, Any] = {"fee_pct": 0.1, "slippage_pct": 0.05}

EXAMPLES = (
    WorkedExample(
        1,
        "a gap through the stop loses more than its percent, and no re-entry follows",
        _terms("long-only", sl_pct=3.0),
        (100, 104, 96, 95, 100),
        "L L L L N",
        (
            (
                "long",
                0,
                2,
                "sl",
                {"entry_fill_price": 100.0, "exit_fill_price": 96.0, "net_pnl_quote": -40.0},
            ),
        ),
        960.0,
        Shown("-4.0000000000"),
    ),
    WorkedExample(
        2,
        "take profit with costs on both sides",
        _terms("long-only", **COSTS, tp_pct=5.0),
        (100, 104, 106, 108, 107),
        "L L L L N",
        (
            (
                "long",
                0,
                2,
                "tp",
                {
                    "entry_fill_price": 100.05,
                    "exit_fill_price": 105.947,
                    "qty_base": 9.995002498750624,
                    "entry_fee_quote": 1.0,
                    "exit_fee_quote": 1.0589405297351324,
                    "net_pnl_quote": 56.881589205397354,
                },
            ),
        ),
        1056.8815892053974,
        5.688158920539732,
    ),
    WorkedExample(
        3,
        "both levels at zero: the stop wins",
        _terms("long-only", sl_pct=0.0, tp_pct=0.0),
        (100, 100, 102, 101),
        "L L L N",
        (("long", 0, 1, "sl", {"entry_fill_price": 100.0, "exit_fill_price": 100.0}),),
        1000.0,
        0.0,
    ),
    WorkedExample(
        4,
        "a stop at zero does not hide the take profit",
        _terms("long-only", sl_pct=0.0, tp_pct=5.0),
        (100, 110, 110, 110),
        "L L L N",
        (("long", 0, 1, "tp", {"net_pnl_quote": 100.0}),),
        1100.0,
        Shown("10.000000000"),
    ),
    WorkedExample(
        5,
        "a reversal closes and opens on one bar",
        _terms("long-short", fee_pct=0.1),
        (100, 110, 105, 100),
        "L S S N",
        (
            ("long", 0, 1, "signal_exit", {"net_pnl_quote": 97.9}),
            (
                "short",
                1,
                3,
                "signal_exit",
                {
                    "entry_quote_amount": 1097.9,
                    "qty_base": 9.980909090909092,
                    "entry_fill_price": 110.0,
                    "exit_fill_price": 100.0,
                    "net_pnl_quote": Shown("97.7131"),
                },
            ),
        ),
        1195.6131,
        Shown("19.56131"),
    ),
    WorkedExample(
        6,
        "in short-only a LONG only closes",
        _terms("short-only"),
        (100, 90, 95, 90, 80),
        "S L L S N",
        (
            ("short", 0, 1, "signal_exit", {"net_pnl_quote": 100.0}),
            (
                "short",
                3,
                4,
                "signal_exit",
                {
                    "entry_fill_price": 90.0,
                    "exit_fill_price": 80.0,
                    "net_pnl_quote": Shown("122.2222"),
                },
            ),
        ),
        1222.2222222222222,
        Shown("22.2222"),
    ),
    WorkedExample(
        7,
        "fixed quote amounts do not compound",
        _terms("long-short", "fixed_quote", init_cash_quote=250.0, fee_pct=0.1),
        (100, 120, 60, 66, 66),
        "L N L S N",
        (
            ("long", 0, 1, "signal_exit", {"net_pnl_quote": Shown("19.7800")}),
            ("long", 2, 3, "signal_exit", {"net_pnl_quote": Shown("9.7900")}),
            ("short", 3, 4, "signal_exit", {"net_pnl_quote": -0.2}),
        ),
        Shown("279.370000"),
        Shown("11.748000"),
    ),
    WorkedExample(
        8,
        "a fixed quote larger than the cash takes the cash",
        _terms("long-short", "fixed_quote", init_cash_quote=120.0),
        (100, 50, 100, 100),
        "L N S N",
        (
            ("long", 0, 1, "signal_exit", {"net_pnl_quote": -50.0}),
            ("short", 2, 3, "signal_exit", {"entry_quote_amount": 70.0}),
        ),
        70.0,
        -41.666666666666664,
    ),
    WorkedExample(
        9,
        "profit is locked before the entry of the same bar",
        _terms("long-short", LOCK),
        (100, 120, 108, 108),
        "L S N N",
        (
            ("long", 0, 1, "signal_exit", {"net_pnl_quote": 200.0, "locked_profit_quote": 60.0}),
            (
                "short",
                1,
                2,
                "signal_exit",
                {
                    "entry_quote_amount": 1140.0,
                    "qty_base": 9.5,
                    "net_pnl_quote": 114.0,
                    "locked_profit_quote": 34.2,
                },
            ),
        ),
        1314.0,
        Shown("31.4000000000"),
        {"available": 1219.8, "safe": 94.2},
    ),
    WorkedExample(
        10,
        "the same with costs",
        _terms("long-short", LOCK, **COSTS),
        (100, 120, 108, 108),
        "L S N N",
        (
            (
                "long",
                0,
                1,
                "signal_exit",
                {"net_pnl_quote": 196.60179910044994, "locked_profit_quote": 58.98053973013498},
            ),
            (
                "short",
                1,
                2,
                "signal_exit",
                {
                    "entry_quote_amount": 1137.6212593703149,
                    "entry_fill_price": Shown("119.94"),
                    "exit_fill_price": Shown("108.054"),
                    "net_pnl_quote": 110.57524985381619,
                    "locked_profit_quote": 33.17257495614486,
                },
            ),
        ),
        1307.1770489542662,
        30.71770489542662,
    ),
    WorkedExample(
        11,
        "forced close of a position that is still open on the last bar",
        _terms("long-only", fee_pct=0.1),
        (100, 105, 110),
        "N L L",
        (("long", 1, 2, "forced_close", {"net_pnl_quote": 45.571428571428655}),),
        1045.5714285714287,
        Shown("4.557142857"),
    ),
    WorkedExample(
        12,
        "an edge on the last bar opens and is forced closed at once",
        _terms("long-only", **COSTS),
        (100, 100, 100),
        "N N L",
        (
            (
                "long",
                2,
                2,
                "forced_close",
                {
                    "entry_fill_price": 100.05,
                    "exit_fill_price": 99.95,
                    "net_pnl_quote": -2.998500749625166,
                },
            ),
        ),
        Shown("997.0014992503"),
        Shown("-0.29985"),
    ),
    WorkedExample(
        13,
        "after a stop a persisted signal waits for a new edge",
        _terms("long-only", sl_pct=3.0),
        (100, 96, 100, 105, 100, 110, 120),
        "L L L L N L L",
        (
            ("long", 0, 1, "sl", {"net_pnl_quote": -40.0}),
            ("long", 5, 6, "forced_close", {"net_pnl_quote": 87.27272727272725}),
        ),
        1047.2727272727273,
        Shown("4.727272727"),
    ),
    WorkedExample(
        14,
        "a stop and the opposite edge share one bar",
        _terms("long-short", sl_pct=3.0),
        (100, 95, 90),
        "L S N",
        (
            ("long", 0, 1, "sl", {"net_pnl_quote": -50.0}),
            (
                "short",
                1,
                2,
                "signal_exit",
                {"entry_quote_amount": 950.0, "net_pnl_quote": 50.0},
            ),
        ),
        1000.0,
        0.0,
    ),
    WorkedExample(
        15,
        "a signal that persists from before the slice is an edge on its first bar",
        _terms("long-only", start=2),
        (100, 100, 100, 110, 120),
        "L L L L N",
        (("long", 2, 4, "signal_exit", {"net_pnl_quote": 200.0}),),
        1200.0,
        Shown("20.0000000000"),
    ),
    WorkedExample(
        16,
        "ruin: no entry without cash",
        _terms("long-short"),
        (100, 250, 200, 300),
        "S N L N",
        (("short", 0, 1, "signal_exit", {"net_pnl_quote": -1500.0}),),
        -500.0,
        -150.0,
        {"available": -500.0, "safe": 0.0},
    ),
    WorkedExample(
        17,
        "a reversal on the last bar is forced closed on that bar",
        _terms("long-short", fee_pct=0.1),
        (100, 110, 121),
        "L L S",
        (
            ("long", 0, 2, "signal_exit", {"net_pnl_quote": 207.79}),
            ("short", 2, 2, "forced_close", {"net_pnl_quote": -2.41558}),
        ),
        1205.37442,
        Shown("20.537442"),
    ),
)

# The worked curve: 1d bars opening 2026-01-01..10, all of them in the slice.
CURVE = WorkedExample(
    18,
    "the worked curve and table",
    _terms("long-short", init_cash_quote=10_000.0, **COSTS),
    (100, 102, 101, 98, 97, 99, 103, 101, 100, 102),
    "L L N N S S L L N N",
    (
        (
            "long",
            0,
            2,
            "signal_exit",
            {
                "entry_fill_price": 100.05,
                "exit_fill_price": 100.9495,
                "net_pnl_quote": 69.81514242878629,
            },
        ),
        (
            "short",
            4,
            6,
            "signal_exit",
            {
                "entry_fill_price": Shown("96.9515"),
                "exit_fill_price": Shown("103.0515"),
                "entry_quote_amount": 10069.815142428786,
                "net_pnl_quote": -654.346406262374,
            },
        ),
        (
            "long",
            6,
            8,
            "signal_exit",
            {
                "entry_fill_price": Shown("103.0515"),
                "exit_fill_price": 99.95,
                "net_pnl_quote": -301.9211807869356,
            },
        ),
    ),
    9113.547555379475,
    Shown("-8.86452444620525"),
)
CURVE_EQUITY = (
    Shown("9985.002499"),
    Shown("10184.902549"),
    Shown("10069.815142"),
    Shown("10069.815142"),
    Shown("10054.707901"),
    Shown("9846.978982"),
    Shown("9401.347886"),
    Shown("9218.614617"),
    Shown("9113.547555"),
    Shown("9113.547555"),
)
CURVE_EXPOSURE = (
    Shown("1.001502"),
    Shown("0.981845"),
    Shown("0.993067"),
    0.0,
    Shown("1.001503"),
    Shown("1.02263"),
    Shown("1.001502"),
    Shown("1.021354"),
    Shown("1.033129"),
    0.0,
)
