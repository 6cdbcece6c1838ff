"""What is kept of where a request comes from: networks, never whole addresses of people."""

from __future__ import annotations

import pytest
from fastapi import Request

from api.identity.callers import UNKNOWN, address, network


def of(host: str | None) -> Request:
    return Request(
        {"type": "http", "headers": [], "client": None if host is None else (host, 50000)}
    )


@pytest.mark.parametrize(
    ("host", "attempts", "shown"),
    [
        ("203.0.113.77", "203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("::1", "::/64", "::/48"),
        ("::ffff:203.0.113.77", "203.0.113.77", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("testclient", UNKNOWN, UNKNOWN),
        (None, UNKNOWN, UNKNOWN),
    ],
)
def test_networks(host: str | None, attempts: str, shown: str) -> None:
    assert (address(of(host)), network(of(host))) == (attempts, shown)
