"""Votes made on a card from indicator rows, and the one rule of when that pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.cuda.kernels import votes_kernel
from compute.cuda.residence import Residence
from compute.packing import Packer, Packing
from compute.rules import BETWEEN, RISING, Side

# Nanoseconds, of a model. A core: a comparison, a value copied to where a card can fetch it. The
# link, PCIe 4 x16 at 25 GB/s: a value, a vote. The card: a comparison. Copies and launch of a call.
COMPARISON_NS = 0.08
STAGED_NS = 0.25
VALUE_NS = 4 * 0.04
VOTE_NS = 0.04 / 8
CARD_NS = 0.002
CALL_NS = 40_000.0


def pays(comparisons: int, values: int, calls: int, cores: int) -> bool:
    """Whether votes of `values` of an indicator, brought in `calls`, are made on a card sooner.

    A row is as many bytes as the planes of 32 comparisons: a few are made where the row is, and
    their planes uploaded; they go up once in any case, what is made there has to come down as well,
    for the processor rescores exactly. Many cores pack faster than any row comes over the link.
    """
    here = comparisons * COMPARISON_NS / cores
    there = STAGED_NS / cores + VALUE_NS + comparisons * (VOTE_NS + CARD_NS)
    return values * (here - there) > calls * CALL_NS


def packing_on(residence: Residence, cores: int, check: Callable[[], None]) -> Packing:
    """What packs votes on the card of `residence` where that pays, in this process elsewhere."""

    def packer(sides: Sequence[tuple[Side, int]], values: int, calls: int) -> Packer:
        here = Packer(sides)
        one_series = here.form == BETWEEN or here.form >= RISING  # the others make two planes a row
        if not one_series or not pays(here.comparisons, values, calls, cores):
            return here
        residence.enter(check)
        try:
            return CardPacker(sides, residence)
        except MemoryError:
            return here

    return packer


class CardPacker(Packer):
    """As `Packer`, on a card; threads may share it. Rows that find no room there are packed here.

    For votes of one series: intervals and lags.
    """

    def __init__(self, sides: Sequence[tuple[Side, int]], residence: Residence) -> None:
        super().__init__(sides)
        self._card = residence.card
        self._lead = int(self.lags.max(initial=0))
        asked = (self.forms.astype(np.int64), self.low, self.high, self.lag.astype(np.int64))
        with self._card.apart():  # before any thread reads them
            self._asked = tuple(map(self._card.put, asked))

    def put(
        self,
        row: int,
        rows: NDArray[np.float32],
        start: int,
        stop: int,
        reference: NDArray[np.float32],
        begin: int,
        planes: NDArray[np.uint64],
        word: int = 0,
    ) -> None:
        lead = min(start, self._lead)
        try:
            votes = self._votes(rows[:, start - lead : stop], lead)
        except MemoryError:
            super().put(row, rows, start, stop, reference, begin, planes, word)
            return
        first, step = self.place[:, :, None]
        planes[first + (row + np.arange(len(rows))) * step, word : word + votes.shape[2]] = votes

    def _votes(self, rows: NDArray[np.float32], start: int) -> NDArray[Any]:
        """Votes u8[comparisons, R, W] of `rows` from column `start` on."""
        card, (count, bars) = self._card, rows.shape
        with card.apart():
            inputs = (card.put(np.ascontiguousarray(rows)), *self._asked)
            votes = card.empty((self.comparisons, count, -(-(bars - start) // 64)), np.uint64)
            card.launch(votes_kernel, votes.size, inputs, start, (votes,))
            return card.host(votes)
