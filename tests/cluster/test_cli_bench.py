"""`roehub bench`: its help is the benchmark's own."""

from __future__ import annotations

import pytest

from tests.benchmarks.__main__ import SECTIONS
from tests.cluster.cli import started


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_sections_and_options(flag: str) -> None:
    process = started("bench", flag)
    text, told = process.communicate()
    assert (process.returncode, told) == (0, "")
    assert text.startswith("roehub bench [ARGUMENTS] runs the benchmark in ")
    words = text.replace(",", " ").replace("[", " ").split()
    for word in (*SECTIONS, "--threads", "--json", "--page", "--quick", "--check"):
        assert word in words
