"""Where a request comes from, as far as it is kept: enough to recognise it, no more."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final

from fastapi import Request

UNKNOWN: Final = "unknown"
_AGENT: Final = 200


def address(request: Request) -> str:
    """Whose attempts count together: an IPv4 address, or the /64 network of an IPv6 one."""
    return _network(request, 32, 64).removesuffix("/32")


def network(request: Request) -> str:
    """The network that a session shows: /24 of IPv4, /48 of IPv6."""
    return _network(request, 24, 48)


def user_agent(request: Request) -> str:
    """What the client calls itself, printable and cut."""
    name = request.headers.get("user-agent", "")
    return "".join(c for c in name if c.isprintable())[:_AGENT]


def _network(request: Request, v4_bits: int, v6_bits: int) -> str:
    if request.client is None:
        return UNKNOWN
    try:
        found = ip_address(request.client.host)
    except ValueError:
        return UNKNOWN
    if found.version == 6 and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    bits = v4_bits if found.version == 4 else v6_bits
    return str(ip_network((int(found), bits) if found.version == 4 else f"{found}/{bits}", False))
