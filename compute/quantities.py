"""Counts, sizes and messages as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, localcontext


def spaced(number: int) -> str:
    """Digits in groups of three."""
    return f"{number:,}".replace(",", " ")


def decimal(value: float, digits: int) -> str:
    """A finite number to `digits` places, in groups of three, with a minus where it is not zero.

    What lies in the middle between two goes away from zero, as browsers have it.
    """
    with localcontext(rounding=ROUND_HALF_UP):
        text = f"{Decimal(float(abs(value))):,.{digits}f}"
    minus = "−" if value < 0 and text.strip("0.") else ""
    return minus + text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(number: float, one: str, more: str = "") -> str:
    """A number of things: `1 job`, `2 jobs`; `more` is their name where it is no `s` longer."""
    text = spaced(number) if isinstance(number, int) else f"{number:g}"
    return f"{text} {one if number == 1 else more or f'{one}s'}"


def some(texts: Sequence[str], most: int = 4) -> str:
    """The first of several names, and how many more there are."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def size_text(size: int) -> str:
    """Bytes in the largest of GiB, MiB and KiB of which there is one."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"


def sentence(text: str) -> str:
    """A message as a sentence: its first letter large, a full stop at its end."""
    return text[:1].upper() + text[1:].removesuffix(".") + "."
