"""Parts come back as they were, to the bit, or not at all."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cluster.jobs.part_files import Fresh, PartFiles
from cluster.jobs.parts import (
    METRICS,
    PartUnreadable,
    decode,
    decode_columns,
    encode,
    encode_columns,
    question,
)
from compute.account import ALL_IN
from compute.distinct import Census, Groups
from compute.executor import LocalExecutor
from compute.ranking import SCORE_FIELDS, Scores, no_scores
from compute.selection import Best, Finalists, Rescore, Scan
from tests.cluster.problems import Problem, request

ANY = st.floats(width=64)  # NaNs of every kind, infinities, both zeros
ODD = np.array([np.nan, -0.0, 0.0, np.inf, -np.inf, 5e-324, 0.1, -np.nan])


def doubles(n: int) -> st.SearchStrategy[Any]:
    return arrays(np.float64, n, elements=ANY)


@st.composite
def scores(draw: st.DrawFn, n: int) -> Scores:
    whole = arrays(np.int64, n, elements=st.integers(-(2**63), 2**63 - 1))
    few = arrays(np.int32, n, elements=st.integers(0, 2**31 - 1))
    return Scores(
        draw(whole), draw(doubles(n)), draw(few), draw(few), *(draw(doubles(n)) for _ in range(3))
    )


@st.composite
def parts(draw: st.DrawFn) -> Any:
    n = draw(st.integers(0, 5))
    one = draw(scores(n))
    tag = draw(arrays(np.uint64, n, elements=st.integers(0, 2**64 - 1)))
    keys = draw(st.lists(st.sampled_from(["", "0fd1", "a" * 64]), min_size=n, max_size=n))
    dropped = draw(st.none() | st.floats(allow_nan=False))
    places = np.arange(n * 3, dtype=np.int64).reshape(n, 3)
    kind = draw(st.sampled_from([Best, Groups, Scores, Finalists, Census]))
    if kind is Best:
        return Best(one.index, one.equity, dropped, 2**40, None, 7)
    if kind is Groups:
        return Groups(tag, one.equity, 3, None, 9)
    if kind is Scores:
        return one
    if kind is Finalists:
        return Finalists(one, keys)
    return Census(one, tag, one.index, places, places + 1, keys)


def bits(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Scores):
        return [bits(getattr(value, name)) for name in SCORE_FIELDS]
    return value


def part_bits(part: Any) -> Any:
    return type(part), {item.name: bits(getattr(part, item.name)) for item in fields(part)}


@given(parts())
def test_a_part_comes_back_to_the_bit(part: Any) -> None:
    stored = encode(part, "q", "c")
    found = decode(stored.content, "q", stored.digest)
    assert part_bits(found.part) == part_bits(part)
    assert found.columns == "c"
    assert encode(found.part, "q", "c").digest == stored.digest


def test_an_empty_census_has_no_axes() -> None:
    none = np.empty((0, 0), np.int64)
    empty = Census(no_scores(), np.empty(0, np.uint64), none[:, 0:0].ravel(), none, none, [])
    stored = encode(empty, "q")
    assert part_bits(decode(stored.content, "q", stored.digest).part) == part_bits(empty)


def best(*merits: float) -> Best:
    return Best(np.arange(len(merits)), np.array(merits), None, len(merits))


def test_what_changes_a_value_changes_the_digest() -> None:
    same = encode(best(1.0, 2.0), "q")
    assert encode(best(1.0, 2.0), "q") == same
    others = [
        encode(best(1.0, np.nextafter(2.0, 3.0)), "q"),
        encode(best(2.0, 1.0), "q"),
        encode(best(1.0, 2.0), "other"),
        encode(best(1.0, 2.0), "q", "columns"),
        encode(Best(np.arange(2), np.array([1.0, 2.0]), -np.inf, 2), "q"),
        encode(Groups(np.arange(2, dtype=np.uint64), np.array([1.0, 2.0]), 2), "q"),
    ]
    assert len({same.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_nothing_but_parts_is_stored() -> None:
    with pytest.raises(TypeError, match="int is no part"):
        encode(3, "q")


def test_columns_come_back_to_the_bit() -> None:
    def block(start: int) -> dict[str, Any]:
        values = {name: ODD.astype(kind) for name, kind in METRICS.items() if kind == np.float64}
        trades = np.arange(len(ODD), dtype=np.int32)
        return {"index": np.arange(start, start + len(ODD)), "num_trades": trades, **values}

    blocks = [block(8), block(0)]
    stored = encode_columns(blocks)
    found = decode_columns(stored.content, stored.digest)
    assert found["index"].tolist() == [*range(8, 16), *range(8)]
    for name in ("total_return_pct", "profit_factor", "num_trades"):
        assert bits(found[name]) == bits(np.concatenate([b[name] for b in blocks]))
    rate = np.concatenate([b["win_rate_pct"] for b in blocks])
    assert np.array_equal(found["win_rate_pct"], rate, equal_nan=True)
    assert encode_columns([found]).digest == stored.digest
    assert decode_columns(*_pair(encode_columns([])))["index"].tolist() == []


def _pair(stored: Any) -> tuple[bytes, str]:
    return stored.content, stored.digest


@pytest.fixture
def files(tmp_path: Path) -> PartFiles:
    return PartFiles(tmp_path, "k")


def columns_of(start: int, n: int) -> dict[str, Any]:
    return {"index": np.arange(start, start + n)} | {
        name: np.arange(n).astype(kind) for name, kind in METRICS.items()
    }


@pytest.mark.parametrize("name", ["0-0-5.parquet", "0-0-5-columns.parquet"])
def test_a_file_that_is_not_what_was_committed_is_unreadable(files: PartFiles, name: str) -> None:
    [row] = files.write([Fresh(0, 0, 5, "q", best(*range(5)), [columns_of(0, 5)])])
    found = files.read(row, "q", columns=True)
    assert found.columns is not None
    assert bits(found.columns["index"]) == bits(np.arange(5))
    with pytest.raises(PartUnreadable, match="another question"):
        files.read(row, "other", columns=True)
    path = files.directory / name
    whole = path.read_bytes()
    for content in (whole[:-9], b""):
        path.write_bytes(content)
        with pytest.raises(PartUnreadable):
            files.read(row, "q", columns=True)
    refused = 0
    for at in range(0, len(whole), 11):  # a changed byte is noticed, or changes no value
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            again = files.read(row, "q", columns=True)
        except PartUnreadable:
            refused += 1
        else:
            assert part_bits(again.part) == part_bits(found.part)
            assert {k: bits(v) for k, v in (again.columns or {}).items()} == {
                k: bits(v) for k, v in found.columns.items()
            }
    assert refused > 10
    path.unlink()
    with pytest.raises(PartUnreadable, match=name):
        files.read(row, "q", columns=True)


def test_a_part_without_columns_does_not_serve_who_wants_them(files: PartFiles) -> None:
    [row] = files.write([Fresh(0, 0, 5, "q", best(1.0), None)])
    assert files.read(row, "q", columns=False).columns is None
    with pytest.raises(PartUnreadable, match="without columns"):
        files.read(row, "q", columns=True)


def test_questions_tell_folds_apart(local: LocalExecutor) -> None:
    problem = Problem(request(windows=3, periods=3))
    stage, other = problem.stage(local), Problem(request(windows=3, periods=4)).stage(local)
    scan = Scan(10, "total_return_pct", ALL_IN, 0)
    asked = {
        question(stage, scan),
        question(other, scan),
        question(stage, Scan(11, "total_return_pct", ALL_IN, 0)),
        question(stage, Scan(10, "total_return_pct", ALL_IN, 1)),
        question(stage, Rescore(np.arange(3))),
        question(stage, Rescore(np.arange(4))),
    }
    assert len(asked) == 6
    assert question(problem.stage(local), scan) == question(stage, scan)
