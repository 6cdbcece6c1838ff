"""What of TA-Lib each output is compared with, how near the two are, and why not nearer.

An expression is Python over TA-Lib's functions, candle columns, `x` (the chosen source), `tp`
(the typical price), the parameters, and `ago(values, bars)`, `where`, `abs`, `sign`, `none` (NaN).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Match:
    """An output and its counterpart: `bound` holds for a share `agreeing` of the bars.

    `bound` is relative to the value, or to the series' largest one with `of_largest`; 0 is
    equality. `seeded`: it holds once the seeds are forgotten, else from the first bar that both
    have. `resting`: a market at rest, without range or volume, sets the two apart, as `note` says.
    `fixed` says which parameters TA-Lib does not have: a number, or the parameter they have to
    equal.
    """

    output: str
    expression: str
    note: str = ""
    seeded: bool = False
    bound: float = 1e-7
    of_largest: bool = False
    agreeing: float = 1.0
    resting: bool = False
    fixed: Mapping[str, str | int] = field(default_factory=dict[str, str | int])


EXPONENTIAL: Final = (
    "TA-Lib starts an exponential mean from the plain mean of the first bars, this one from the"
    " first value"
)
WILDER: Final = (
    "TA-Lib starts Wilder's smoothing from the plain mean of the first bars, this one from the"
    " first value"
)
DIRECTION: Final = (
    "TA-Lib starts Wilder's smoothing from the sum of the first bars, this one from the first value"
)
BOTH: Final = (
    "TA-Lib starts both smoothings from the plain mean of the first bars, this one from the"
    " first value"
)
SWAP: Final = EXPONENTIAL + "; with fast_window > slow_window TA-Lib swaps the two"
REST: Final = "where the range is 0 TA-Lib gives 0, this one nothing"
STOCHASTIC: Final = (
    "where the range over k_window bars is 0 TA-Lib averages a 0, this one has no value"
)
NO_VOLUME: Final = "without volume in the window TA-Lib divides by 0, this one gives nothing"
START: Final = "TA-Lib's sum has a value at bar 0, this one starts with the first change"
AROON: Final = (
    "TA-Lib looks at window + 1 bars and counts from 0, this one at window bars and counts from"
    " 100 / window"
)
SAR: Final = (
    "TA-Lib keeps the line beyond the last two bars, also where it turns, and turns on a touch;"
    " this one keeps it beyond the last bar and turns on a break"
)
FRACTAL: Final = "TA-Lib marks the confirming bar, this one gives the price of the pivot there"
RANK: Final = (
    "TA-Lib counts what lies strictly below among the bars before, this one what is not above,"
    " itself included"
)
ROUNDED: Final = f"this one reads the RSI in float32; {WILDER}; {STOCHASTIC}"

_MACD: Final = "MACD(x, fast_window, slow_window, signal_window)"
_SMI: Final = "SMI(high, low, close, window, smoothing, smoothing, signal_window)"
_STOCH: Final = "STOCH(high, low, close, k_window, smoothing, MA_Type.SMA, d_window, MA_Type.SMA)"
_HA: Final = "HA(open, high, low, close)"
_FRACTAL: Final = "FRACTAL(high, low, left, right)"
_KC: Final = "KC(high, low, close, window, window, mult)"
_BANDS: Final = "BBANDS(x, window, mult, mult)"
_SAR: Final = (
    "SAREXT(high, low, 0, 0, accel_start, accel_step, accel_max,"
    " accel_start, accel_step, accel_max)"
)
_TREND: Final = "SUPERTREND(high, low, close, window, mult)"
_PIVOT_HIGH: Final = Match(
    "pivot_high", f"where({_FRACTAL}[0] > 0, ago(high, right), none)", FRACTAL, bound=0.0
)
_PIVOT_LOW: Final = Match(
    "pivot_low", f"where({_FRACTAL}[1] > 0, ago(low, right), none)", FRACTAL, bound=0.0
)
_BODY: Final = Match("body_pct", "abs(BOP(open, high, low, close))", REST, resting=True)
_WILDER_TWICE: Final[Mapping[str, str | int]] = {"smoothing": "window"}

MATCHES: Final[Mapping[str, tuple[Match, ...]]] = {
    "ma.dema": (Match("value", "DEMA(x, window)", EXPONENTIAL, seeded=True),),
    "ma.ema": (Match("value", "EMA(x, window)", EXPONENTIAL, seeded=True),),
    "ma.hma": (Match("value", "HMA(x, window)"),),
    "ma.kama": (
        Match(
            "value",
            "KAMA(x, window)",
            "where nothing moved TA-Lib takes an efficiency of 1, this one of 0",
            resting=True,
            fixed={"fast_window": 2, "slow_window": 30},
        ),
    ),
    "ma.lwma": (Match("value", "WMA(x, window)"),),
    "ma.rma": (Match("value", "RMA(x, window)", WILDER, seeded=True),),
    "ma.sma": (Match("value", "SMA(x, window)"),),
    "ma.t3": (Match("value", "T3(x, window, vfactor)", EXPONENTIAL, seeded=True),),
    "ma.tema": (Match("value", "TEMA(x, window)", EXPONENTIAL, seeded=True),),
    "ma.vwma": (Match("value", "VWMA(close, volume, window)"),),
    "ma.wma": (Match("value", "WMA(x, window)"),),
    "ma.zlema": (Match("value", "ZLEMA(x, window)", EXPONENTIAL, seeded=True),),
    "momentum.ao": (Match("ao", "AO(high, low, fast_window, slow_window)"),),
    "momentum.cci": (Match("cci", "CCI(high, low, close, window)", REST, resting=True),),
    "momentum.macd": (
        Match("macd", f"{_MACD}[0]", SWAP, seeded=True),
        Match("signal", f"{_MACD}[1]", SWAP, seeded=True),
        Match("hist", f"{_MACD}[2]", SWAP, seeded=True),
    ),
    "momentum.ppo": (
        Match("ppo", "PPO(x, fast_window, slow_window, MA_Type.EMA)", SWAP, seeded=True),
    ),
    "momentum.roc": (Match("roc", "ROC(x, window)"),),
    "momentum.rsi": (Match("rsi", "RSI(x, window)", WILDER, seeded=True),),
    "momentum.smi": (
        Match("smi", f"{_SMI}[0]", EXPONENTIAL, seeded=True),
        Match("signal", f"{_SMI}[1]", EXPONENTIAL, seeded=True),
        Match("hist", f"{_SMI}[0] - {_SMI}[1]", EXPONENTIAL, seeded=True),
    ),
    "momentum.stoch": (
        Match("k", f"{_STOCH}[0]", STOCHASTIC, resting=True),
        Match("d", f"{_STOCH}[1]", STOCHASTIC, resting=True),
    ),
    "momentum.stoch_rsi": (
        Match(
            "k",
            "STOCHRSI(x, rsi_window, k_window, smoothing, MA_Type.SMA)[1]",
            ROUNDED,
            seeded=True,
            bound=2e-6,
            of_largest=True,
            resting=True,
        ),
    ),
    "momentum.trix": (Match("trix", "TRIX(x, window)", EXPONENTIAL, seeded=True),),
    "momentum.tsi": (Match("tsi", "TSI(x, long_window, short_window)", EXPONENTIAL, seeded=True),),
    "momentum.ultimate": (
        Match(
            "ultimate",
            "ULTOSC(high, low, close, short_window, medium_window, long_window)",
            "a window without range counts as 0 in TA-Lib and leaves this one without a value",
            resting=True,
        ),
    ),
    "momentum.williams_r": (
        Match("williams_r", "WILLR(high, low, close, window)", REST, resting=True),
    ),
    "structure.candle_body_pct": (_BODY,),
    "structure.candle_stats": (_BODY,),
    "structure.heikin_ashi": (
        Match("ha_close", f"{_HA}[3]"),
        Match("ha_open", f"{_HA}[0]"),
        Match("ha_high", f"{_HA}[1]"),
        Match("ha_low", f"{_HA}[2]"),
    ),
    "structure.percent_rank": (
        Match(
            "percent_rank",
            "100 - PERCENTRANK(-x, window - 1) * (window - 1) / window",
            RANK,
        ),
    ),
    "structure.pivot_high": (_PIVOT_HIGH,),
    "structure.pivot_low": (_PIVOT_LOW,),
    "structure.pivots": (_PIVOT_HIGH, _PIVOT_LOW),
    "trend.adx": (
        Match(
            "plus_di",
            "PLUS_DI(high, low, close, window)",
            DIRECTION,
            seeded=True,
            fixed=_WILDER_TWICE,
        ),
        Match(
            "minus_di",
            "MINUS_DI(high, low, close, window)",
            DIRECTION,
            seeded=True,
            fixed=_WILDER_TWICE,
        ),
        Match("adx", "ADX(high, low, close, window)", DIRECTION, seeded=True, fixed=_WILDER_TWICE),
    ),
    "trend.aroon": (
        Match("aroon_up", "(AROON(high, low, window - 1)[1] * (window - 1) + 100) / window", AROON),
        Match(
            "aroon_down", "(AROON(high, low, window - 1)[0] * (window - 1) + 100) / window", AROON
        ),
        Match("aroon_osc", "AROONOSC(high, low, window - 1) * (window - 1) / window", AROON),
    ),
    "trend.donchian": (
        Match("donchian_upper", "DONCHIAN(high, low, window)[0]", bound=0.0),
        Match("donchian_lower", "DONCHIAN(high, low, window)[2]", bound=0.0),
        Match("donchian_mid", "DONCHIAN(high, low, window)[1]"),
    ),
    "trend.ichimoku": (
        Match("conversion", "MIDPRICE(high, low, conversion_window)"),
        Match("base", "MIDPRICE(high, low, base_window)"),
        Match(
            "span_a",
            "ago(MIDPRICE(high, low, conversion_window) + MIDPRICE(high, low, base_window),"
            " displacement) / 2",
        ),
        Match("span_b", "ago(MIDPRICE(high, low, span_b_window), displacement)"),
    ),
    "trend.keltner": (
        Match("middle", f"{_KC}[1]", BOTH, seeded=True),
        Match("upper", f"{_KC}[0]", BOTH, seeded=True),
        Match("lower", f"{_KC}[2]", BOTH, seeded=True),
    ),
    "trend.linreg_slope": (Match("slope", "LINEARREG_SLOPE(x, window)"),),
    "trend.psar": (
        Match("psar", f"abs({_SAR})", SAR, agreeing=0.6),
        Match("psar_dir", f"sign({_SAR})", SAR, agreeing=0.95),
    ),
    "trend.supertrend": (
        Match("supertrend", f"{_TREND}[0]", WILDER, seeded=True),
        Match("supertrend_dir", f"{_TREND}[1]", WILDER, seeded=True, bound=0.0),
    ),
    "trend.vortex": (
        Match("vi_plus", "VORTEX(high, low, close, window)[0]", REST, resting=True),
        Match("vi_minus", "VORTEX(high, low, close, window)[1]", REST, resting=True),
    ),
    "volatility.atr": (Match("atr", "ATR(high, low, close, window)", WILDER, seeded=True),),
    "volatility.bbands": (
        Match("basis", f"{_BANDS}[1]"),
        Match("upper", f"{_BANDS}[0]"),
        Match("lower", f"{_BANDS}[2]"),
    ),
    "volatility.bbands_bandwidth": (
        Match("bandwidth", f"({_BANDS}[0] - {_BANDS}[2]) / {_BANDS}[1]"),
    ),
    "volatility.bbands_percent_b": (
        Match("percent_b", f"(x - {_BANDS}[2]) / ({_BANDS}[0] - {_BANDS}[2])"),
    ),
    "volatility.chaikin": (
        Match("chaikin", "CVI(high, low, window, roc_window)", EXPONENTIAL, seeded=True),
    ),
    "volatility.stddev": (Match("stddev", "STDDEV(x, window, 1)"),),
    "volatility.tr": (
        Match("tr", "TRANGE(high, low, close)", "TA-Lib has no value at bar 0", bound=0.0),
    ),
    "volatility.variance": (Match("variance", "VAR(x, window, 1)"),),
    "volume.ad_line": (
        Match(
            "ad_line",
            "AD(high, low, close, volume)",
            "on a bar whose range is 0 TA-Lib adds nothing, this one has no value and starts again",
            resting=True,
        ),
    ),
    "volume.chaikin_osc": (
        Match("chaikin_osc", "ADOSC(high, low, close, volume, fast_window, slow_window)"),
    ),
    "volume.cmf": (
        Match(
            "cmf",
            "CMF(high, low, close, volume, window)",
            "TA-Lib starts a bar earlier and counts 0 for a bar whose range is 0, this one has no"
            " value while it is in the window",
            resting=True,
        ),
    ),
    "volume.force": (Match("force", "EFI(close, volume, window)", EXPONENTIAL, seeded=True),),
    "volume.mfi": (
        Match(
            "mfi",
            "MFI(high, low, close, volume, window)",
            "where no money flows at all TA-Lib gives 0, this one 100",
            resting=True,
        ),
    ),
    "volume.obv": (Match("obv", "OBV(close, volume) - volume[0]", START),),
    "volume.pvt": (Match("pvt", "PVT(close, volume)", START),),
    "volume.volume_sma": (Match("volume_sma", "SMA(volume, window)"),),
    "volume.vwap": (Match("vwap", "VWMA(tp, volume, window)", NO_VOLUME, resting=True),),
    "volume.vwap_deviation": (Match("vwap", "VWMA(tp, volume, window)", NO_VOLUME, resting=True),),
}
