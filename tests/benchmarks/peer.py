"""Times one peer on given votes, in the peer's own environment: `python peer.py NAME PROBLEM.npz`.

Needs that environment alone. Prints one line of JSON: variants a second, trades and returns of both
stages. A position opens where a vote begins and ends where it ends, at the close of that bar.
"""

import json
import sys
import time

import numpy as np


def run_starts(votes, side):
    """Flags of the bars where a run of `side` begins."""
    here = votes == side
    before = np.zeros_like(here)
    before[:, 1:] = here[:, :-1]
    return here & ~before


def run_stops(votes, side):
    """Flags of the bars where a run of `side` has just ended."""
    here = votes == side
    before = np.zeros_like(here)
    before[:, 1:] = here[:, :-1]
    return before & ~here


def with_vectorbt(problem):
    """Both stages by `Portfolio.from_signals`, all variants of a stage in one call."""
    import vectorbt  # type: ignore[import-not-found]

    cash, fee_pct, slippage_pct = problem["terms"]
    close = problem["close"][:, None]

    def stage(votes, stops):
        repeats = 1 if stops is None else len(stops)
        columns = np.repeat(votes, repeats, axis=0)
        flags = [
            np.ascontiguousarray(make(columns, side).T)
            for make, side in ((run_starts, 1), (run_stops, 1), (run_starts, -1), (run_stops, -1))
        ]
        flags[0][-1] = flags[2][-1] = False
        extra = {}
        if stops is not None:
            extra = {
                "sl_stop": np.tile(stops[:, 0], len(votes))[None, :],
                "tp_stop": np.tile(stops[:, 1], len(votes))[None, :],
                "stop_exit_price": "close",
                "stop_entry_price": "fillprice",
                "upon_stop_exit": "close",
            }

        def work():
            made = vectorbt.Portfolio.from_signals(
                close,
                flags[0], flags[1], flags[2], flags[3],
                init_cash=cash, fees=fee_pct / 100, slippage=slippage_pct / 100,
                size=np.inf, upon_opposite_entry="reverse", freq="15min", **extra,
            )  # fmt: skip
            return made.trades.count().to_numpy(), 100 * made.total_return().to_numpy()

        return timed(work, len(columns))

    return {
        "version": vectorbt.__version__,
        "stage_a": stage(problem["votes_a"], None),
        "stage_b": stage(problem["votes_b"], problem["stops"]),
    }


def with_backtesting(problem):
    """Both stages by one `Backtest.run` a variant."""
    import backtesting  # type: ignore[import-not-found]
    import pandas  # type: ignore[import-not-found]

    cash, fee_pct, slippage_pct = problem["terms"]
    close = problem["close"]
    frame = pandas.DataFrame(
        dict.fromkeys(("Open", "High", "Low", "Close"), close),
        index=pandas.date_range("2024-01-01", periods=len(close), freq="15min"),
    )
    # Whole units of a coin would leave most of the cash idle: prices per millionth.
    frame = frame / 1e6

    class Follower(backtesting.Strategy):
        votes = np.zeros(0, np.int8)
        stop_loss = None
        take_profit = None

        def init(self):
            self.before = 0

        def next(self):
            bar = len(self.data) - 1
            vote, price = int(self.votes[bar]), self.data.Close[-1]
            if vote != self.before:
                self.position.close()
                if vote:
                    levels = {}
                    if self.stop_loss is not None and self.take_profit is not None:
                        levels = {
                            "sl": price * (1 - vote * self.stop_loss),
                            "tp": price * (1 + vote * self.take_profit),
                        }
                    (self.buy if vote > 0 else self.sell)(size=0.9999, **levels)
            self.before = vote

    def stage(votes, stops):
        variants = [(row, pair) for row in votes for pair in ([None] if stops is None else stops)]

        def work():
            trades, returns = [], []
            for row, pair in variants:
                test = backtesting.Backtest(
                    frame, Follower, cash=cash, commission=fee_pct / 100,
                    spread=2 * slippage_pct / 100, trade_on_close=True, finalize_trades=True,
                )  # fmt: skip
                stats = test.run(
                    votes=row,
                    stop_loss=None if pair is None else float(pair[0]),
                    take_profit=None if pair is None else float(pair[1]),
                )
                trades.append(int(stats["# Trades"]))
                returns.append(float(stats["Return [%]"]))
            return np.array(trades), np.array(returns)

        return timed(work, len(variants))

    return {
        "version": backtesting.__version__,
        "stage_a": stage(problem["votes_a"], None),
        "stage_b": stage(problem["votes_b"], problem["stops"]),
    }


def timed(work, variants):
    """Variants a second of the second of two runs, and what they found."""
    trades, return_pct = work()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    return {
        "variants": variants,
        "variants_per_second": variants / seconds,
        "trades": [int(count) for count in trades],
        "return_pct": [float(value) for value in return_pct],
    }


def main(peer, problem):
    """Prints what `peer` makes of the problem."""
    by_name = {"vectorbt": with_vectorbt, "backtesting": with_backtesting}
    with np.load(problem) as arrays:
        found = by_name[peer]({name: arrays[name] for name in arrays.files})
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
