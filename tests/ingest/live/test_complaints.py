"""Why there is no stream: with the host and the cure, and not at every attempt."""

from __future__ import annotations

from ingest.live.complaints import Complaints


def test_an_unreachable_host_is_named_once_a_minute() -> None:
    complaints = Complaints("wss://stream.example:9443/stream")
    error = OSError("Name or service not known")
    told = complaints.about(error, 0.0)
    assert told is not None
    assert "stream.example:9443 cannot be reached (Name or service not known); check the" in told
    assert complaints.about(error, 59.0) is None
    assert complaints.about(error, 60.0) == told


def test_another_reason_is_told_at_once() -> None:
    complaints = Complaints("wss://stream.example/stream")
    assert complaints.about(ValueError("one"), 0.0) == "one"
    assert complaints.about(ValueError(), 1.0) == "ValueError"
