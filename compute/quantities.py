"""Counts and sizes as people read them."""

from __future__ import annotations


def spaced(number: int) -> str:
    """Digits in groups of three."""
    return f"{number:,}".replace(",", " ")


def size_text(size: int) -> str:
    """Bytes in the largest of GiB, MiB and KiB of which there is one."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
