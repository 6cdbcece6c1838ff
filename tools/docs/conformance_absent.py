"""What only one of the two libraries has: our ids without a counterpart, TA-Lib's functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PARTS: Final = "measurement of the parts of a candle"
_PARTS_ATR: Final = "measurement of the parts of a candle against the average true range"

ABSENT: Final[Mapping[str, str]] = {
    "ma.alma": "Arnaud Legoux moving average",
    "ma.frama": "fractal adaptive moving average",
    "ma.mcginley": "McGinley dynamic",
    "momentum.connors_rsi": "Connors RSI",
    "momentum.fisher": "Fisher transform",
    "momentum.rmi": "relative momentum index",
    "structure.candle_body": _PARTS,
    "structure.candle_body_atr": _PARTS_ATR,
    "structure.candle_lower_wick": _PARTS,
    "structure.candle_lower_wick_atr": _PARTS_ATR,
    "structure.candle_lower_wick_pct": _PARTS,
    "structure.candle_range": _PARTS,
    "structure.candle_range_atr": _PARTS_ATR,
    "structure.candle_stats_atr_norm": _PARTS_ATR,
    "structure.candle_upper_wick": _PARTS,
    "structure.candle_upper_wick_atr": _PARTS_ATR,
    "structure.candle_upper_wick_pct": _PARTS,
    "structure.distance_to_ma_norm": "distance to a mean against the average true range",
    "structure.zscore": "z-score",
    "trend.chandelier_exit": "chandelier exit",
    "trend.choppiness": "choppiness index",
    "volatility.ewma": "exponentially weighted volatility",
    "volatility.garman_klass": "Garman-Klass volatility",
    "volatility.hv": "volatility of logarithmic returns",
    "volatility.parkinson": "Parkinson volatility",
    "volatility.rogers_satchell": "Rogers-Satchell volatility",
    "volatility.yang_zhang": "Yang-Zhang volatility",
    "volume.eom": "ease of movement",
    "volume.klinger": "Klinger oscillator",
}
"""Ids of which TA-Lib computes no output, and what it lacks, after the words 'has no'."""

_FOREIGN: Final = "not in the library"
_SCALE: Final = "momentum.roc on another scale"

UNMATCHED: Final[Mapping[str, str]] = {
    "AC": "momentum.ao less its mean; not in the library",
    "ACCBANDS": _FOREIGN,
    "ADR": "mean of high - low, without the gaps of the true range; not in the library",
    "ADXR": "mean of two values of trend.adx; not in the library",
    "APO": "the line of momentum.macd with free kinds of mean; compared through MACD",
    "BETA": _FOREIGN,
    "CMO": "momentum.rsi on a scale from -100 to 100; compared through RSI",
    "CMOU": _FOREIGN,
    "COPPOCK": _FOREIGN,
    "CORREL": _FOREIGN,
    "DPO": _FOREIGN,
    "DX": "a step of trend.adx that is no output; compared through ADX",
    "ER": "a step of ma.kama that is no output; compared through KAMA",
    "ERI": _FOREIGN,
    "FOSC": _FOREIGN,
    "HT_TRENDLINE": _FOREIGN,
    "IMI": _FOREIGN,
    "KDJ": "momentum.stoch smoothed with Wilder's weights; not in the library",
    "LINEARREG": "level of the line of trend.linreg_slope; not in the library",
    "LINEARREG_ANGLE": "trend.linreg_slope as an angle; compared through LINEARREG_SLOPE",
    "LINEARREG_INTERCEPT": "other end of the line of trend.linreg_slope; not in the library",
    "MA": "chooses one of the means by number; they are compared by their own names",
    "MACDEXT": "momentum.macd with free kinds of mean; compared through MACD",
    "MACDFIX": "momentum.macd with weights of 0.15 and 0.075; not in the library",
    "MAMA": _FOREIGN,
    "MARKETFI": _FOREIGN,
    "MASSI": _FOREIGN,
    "MAVP": _FOREIGN,
    "MIDPOINT": "middle of one price's range; trend.donchian is that of high and low",
    "MINUS_DM": "a step of trend.adx that is no output; compared through MINUS_DI",
    "MOM": "momentum.roc as a difference; not in the library",
    "NATR": "volatility.atr in percent of the close; not in the library",
    "NVI": _FOREIGN,
    "PERCENTILE": "inverse of structure.percent_rank; not in the library",
    "PLUS_DM": "a step of trend.adx that is no output; compared through PLUS_DI",
    "PVI": _FOREIGN,
    "PVO": "momentum.ppo of volume, which is no source there",
    "QSTICK": _FOREIGN,
    "ROCP": _SCALE,
    "ROCR": _SCALE,
    "ROCR100": _SCALE,
    "RVI": _FOREIGN,
    "RVOL": "volume over the mean before it; volume.volume_sma is the mean alone",
    "SAR": "trend.psar with one number for start and step; compared through SAREXT",
    "STOCHF": "momentum.stoch without smoothing, which begins at 2 here; compared through STOCH",
    "TRIMA": _FOREIGN,
    "TSF": "next point of the line of trend.linreg_slope; not in the library",
    "VHF": _FOREIGN,
    "VWAP": "since the first bar, where volume.vwap has a window; compared through VWMA",
    "WAD": _FOREIGN,
}
"""Functions of TA-Lib's groups of indicators that no expression uses, and why."""
