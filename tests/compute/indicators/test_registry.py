from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compute.errors import InvalidGrid
from compute.indicators.registry import definition, ids, module, nearest


def test_ids_are_the_files_sorted():
    package = Path(__file__).parents[3] / "compute" / "indicators"
    files = {
        f"{path.parent.name}.{path.stem}"
        for path in package.glob("*/*.py")
        if path.parent.name != "kernels" and path.stem != "__init__"
    }
    assert list(ids()) == sorted(files)


def test_lookup_normalises_the_id():
    assert definition("  MA.SMA ") is module("ma.sma").DEFINITION


def test_unknown_id_names_near_ones():
    with pytest.raises(InvalidGrid, match=r"unknown indicator 'momentum\.rsl'.*momentum\.rsi") as e:
        definition("momentum.rsl")
    assert "momentum.rsi" in e.value.details["near"]
    for odd in ("", "kernels.sums", "ma", "ma.sma.x", "../jit"):
        with pytest.raises(InvalidGrid):
            definition(odd)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("macd", "momentum.macd"),
        ("momentum.adx", "trend.adx"),
        ("volume.vwma", "ma.vwma"),
        (" RSI", "momentum.rsi"),
        ("bollinger", "volatility.bbands"),
        ("rsii", "momentum.rsi"),
        ("ma.smo", "ma.sma"),
    ],
)
def test_the_nearest_has_the_name_then_the_word_then_the_letters(text: str, first: str):
    assert nearest(text)[0] == first


def test_a_word_of_a_title_names_all_of_them():
    assert {"momentum.stoch", "momentum.stoch_rsi"} <= {*nearest("stochastic")}
    assert nearest("") == nearest("qqqq") == []


def test_one_lookup_imports_one_indicator():
    code = (
        "import sys; from compute.indicators.registry import definition, ids;"
        "ids(); definition('ma.sma');"
        "print([m for m in sys.modules if m.startswith('compute.indicators.')"
        " and m.count('.') == 3 and '.kernels.' not in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['compute.indicators.ma.sma']"
