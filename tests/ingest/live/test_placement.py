"""Which symbols go over which socket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.live.placement import placed

SYMBOLS = st.lists(st.sampled_from("ABCDEFGHIJKLMNOP"), unique=True).map(sorted)


def test_in_order_at_first() -> None:
    assert placed([], "ABCDE", 2).new == [("A", "B"), ("C", "D"), ("E",)]


def test_symbols_stay_and_room_is_used() -> None:
    found = placed([("A", "B"), ("C", "D"), ("E",)], "ACDEFGH", 2)
    assert found.changed == [("A", "F"), ("C", "D"), ("E", "G")]
    assert found.new == [("H",)]


def test_a_socket_without_symbols_is_closed_and_not_used_again() -> None:
    found = placed([("A",), ("B",)], "BC", 2)
    assert found.changed == [(), ("B", "C")]


@given(SYMBOLS, SYMBOLS, st.integers(1, 5), st.integers(1, 5))
def test_every_symbol_has_one_place(
    before: list[str], after: list[str], most_before: int, most: int
) -> None:
    sockets = placed([], before, most_before).new
    found = placed(sockets, after, most)
    everywhere = [symbol for one in (*found.changed, *found.new) for symbol in one]
    assert sorted(everywhere) == after
    assert all(len(one) <= most for one in (*found.changed, *found.new))
    assert all(found.new)
    if most >= most_before:  # nobody moves
        for old, new in zip(sockets, found.changed, strict=True):
            assert set(old) & set(after) <= set(new)
