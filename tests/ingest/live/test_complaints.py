"""Failures that repeat: told at once, then ever more rarely, and their end once."""

from __future__ import annotations

from compute.market.instrument import Instrument
from ingest.live.complaints import Complaints, of_any, unreachable


def told(complaints: Complaints, reason: str, seconds: range) -> list[int]:
    return [now_s for now_s in seconds if complaints.tells("a", reason, now_s)]


def test_an_outage_is_told_ever_more_rarely() -> None:
    complaints = Complaints()
    times = told(complaints, "gone", range(0, 6 * 3600, 4))
    assert times == [0, 60, 180, 420, 900, 1860, 3780, 7380, 10_980, 14_580, 18_180]
    # After a day without it, it is a new one.
    assert told(complaints, "gone", range(100_000, 100_100, 4)) == [100_000, 100_060]


def test_another_reason_or_source_is_told_at_once() -> None:
    complaints = Complaints()
    assert complaints.tells("a", "one", 0.0)
    assert complaints.tells("b", "one", 0.0)
    assert complaints.tells("a", "two", 1.0)
    assert not complaints.tells("a", "two", 2.0)


def test_reasons_that_take_turns_are_no_flood() -> None:
    complaints = Complaints()
    times = [
        now_s
        for now_s in range(0, 600, 4)
        if complaints.tells("a", "timed out" if now_s % 8 else "refused", now_s)
    ]
    assert len(times) == 8
    assert (complaints.over("a"), complaints.over("a")) == (True, False)
    for reason in range(10_000):
        complaints.tells("a", str(reason), 600.0)
    assert complaints.tells("a", "0", 601.0)  # only the last reasons are remembered


def test_the_end_is_told_once_and_what_flaps_is_no_flood() -> None:
    complaints = Complaints()
    assert not complaints.over("a")
    assert complaints.tells("a", "one", 0.0)
    assert (complaints.over("a"), complaints.over("a")) == (True, False)
    assert not complaints.tells("a", "one", 5.0)
    assert not complaints.over("a")
    assert complaints.tells("a", "one", 60.0)
    assert complaints.over("a")


def test_an_outage_after_the_end_of_a_long_one_is_not_silent_for_an_hour() -> None:
    complaints = Complaints()
    assert told(complaints, "gone", range(0, 7400, 4))[-1] == 7380  # and not for an hour now
    assert complaints.over("a")
    assert told(complaints, "gone", range(7700, 12_000, 4))[0] == 7980
    assert complaints.over("a")
    assert complaints.tells("a", "gone", 20_000.0)


def test_a_host_that_is_not_reached_is_named_with_the_cure() -> None:
    said = unreachable(OSError("Name or service not known"), "wss://stream.example:9443/stream")
    assert "stream.example:9443 cannot be reached (Name or service not known); check the" in said
    assert unreachable(ValueError("one"), "wss://stream.example/stream") == "one"
    assert unreachable(ValueError(), "wss://stream.example/stream") == "ValueError"


def test_instruments_that_fail_alike_have_one_reason() -> None:
    reasons = {
        of_any(Instrument(3, symbol), ValueError(f"kline for {asked}: see HTTPS_PROXY"))
        for symbol, asked in (("ADAUSDT", "ADAUSDT"), ("A", "A"), ("A", "BTCUSDT"))
    }
    assert reasons == {"kline for …: see HTTPS_PROXY"}


def test_codes_and_words_are_no_instruments() -> None:
    def reason(symbol: str, text: str) -> str:
        return of_any(Instrument(3, symbol), ValueError(text))

    assert reason("BTCUSDT", "retCode 10006: BTCUSDT") == "retCode 10006: …"
    assert reason("A", "A has no candle at 1000PEPEUSDT") == "… has no candle at …"
