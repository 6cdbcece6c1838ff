"""The whitelist: what a file may say, the shipped ones, and every way to get it wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from configs.load import environment_file
from ingest.whitelist import Listed, whitelist


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "whitelist.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_in_order_symbols_trimmed_and_upper_case(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffsymbol,note,market_id,is_enabled\n btcusdt ,x,1,1\nWLDUSDT,y, 4 , 0 \n\n",
    )
    said: list[str] = []
    assert whitelist(path, said.append) == [
        Listed(Instrument(1, "BTCUSDT"), True),
        Listed(Instrument(4, "WLDUSDT"), False),
    ]
    assert said == []


def test_of_a_repeated_instrument_the_last_row_counts_in_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "market_id,symbol,is_enabled\n1,AAA,1\n1,BBB,1\n1,aaa,0\n")
    said: list[str] = []
    assert whitelist(path, said.append) == [
        Listed(Instrument(1, "BBB"), True),
        Listed(Instrument(1, "AAA"), False),
    ]
    (warning,) = said
    assert "line 4 repeats 1:AAA of line 2" in warning


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "column market_id, symbol, is_enabled is missing"),
        ("market_id,symbol\n1,A\n", "line 1: column is_enabled is missing"),
        ("market_id,symbol,is_enabled\n1,A,1\n1,,1\n", "line 3: symbol must be"),
        ("market_id,symbol,is_enabled\nx,A,1\n", "line 2: market_id must be a whole number"),
        ("market_id,symbol,is_enabled\n0,A,1\n", "market_id must be a whole number from 1"),
        ("market_id,symbol,is_enabled\n65536,A,1\n", "market_id must be a whole number from 1"),
        ("market_id,symbol,is_enabled\n1,A/B,1\n", "separators; write it like AB"),
        ("market_id,symbol,is_enabled\n1,A,true\n", "is_enabled must be 0 or 1, got 'true'"),
        ("market_id,symbol,is_enabled\n1,A\n", "is_enabled must be 0 or 1, got ''"),
        ("market_id,symbol,is_enabled\n1,A,2\n1,B,3\n", "line 2: is_enabled"),
        ("market_id,symbol,is_enabled\n" + "1,A,2\n" * 7, "and 2 more"),
        ('market_id,symbol,is_enabled\n1,"A,1\n', "cannot be read"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InvalidInput) as caught:
        whitelist(path, lambda line: None)
    assert reason in caught.value.message
    assert str(path) in caught.value.message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        whitelist(tmp_path / "absent.csv", lambda line: None)


def test_shipped_whitelists() -> None:
    said: list[str] = []
    dev = whitelist(environment_file("whitelist.csv", {"ROEHUB_ENV": "dev"}), said.append)
    assert said == []
    assert all(listed.enabled for listed in dev)
    assert Counter(listed.instrument.market_id for listed in dev) == {1: 8, 2: 6, 3: 6, 4: 4}

    path = environment_file("whitelist.csv", {"ROEHUB_ENV": "prod"})
    prod = whitelist(path, said.append)
    assert said == []
    assert len(prod) == len(path.read_text().splitlines()) - 1 == 66
    enabled = Counter(listed.instrument.market_id for listed in prod if listed.enabled)
    assert enabled == {1: 31, 2: 6, 3: 22, 4: 3}
    assert {str(listed.instrument) for listed in prod if not listed.enabled} == {
        f"{market_id}:PEPEUSDT" for market_id in (1, 2, 3, 4)
    }
