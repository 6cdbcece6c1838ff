"""Settings that lead a client to a server of the tests."""

from __future__ import annotations

from ingest.settings import BackoffSettings, LimiterSettings, RestSettings


def rest_settings(
    base_url: str,
    *,
    timeout_s: float = 10.0,
    retries: int = 3,
    safety_factor: float = 0.8,
    max_concurrency: int = 4,
    earliest: str = "2017-01-01T00:00:00Z",
) -> RestSettings:
    """REST of a market at `base_url`, as the shipped files have it unless told otherwise."""
    return RestSettings(
        base_url=base_url,
        earliest_available_ts_utc=earliest,
        timeout_s=timeout_s,
        retries=retries,
        backoff=BackoffSettings(base_s=0.5, max_s=10.0, jitter_s=0.2),
        limiter=LimiterSettings("autodetect", safety_factor, max_concurrency),
    )
