"""Recalls: how a driver tells the tasks of one fold to return, wherever they run or wait.

A key in the cluster's head, looked up between blocks. Not `ray.cancel`: a task that ends in the
moment it is cancelled aborts the whole driver process (seen with Ray 2.60 on a busy machine).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_exists,
    _internal_kv_put,
)

from compute.errors import Cancelled

_NAMESPACE = b"roehub-recalls"
_POLL_SECONDS = 0.2


def recall_key() -> bytes:
    """A fresh key; nobody is recalled by it yet."""
    return uuid4().hex.encode()


def recall(key: bytes) -> None:
    """Tells everyone who checks `key` to return."""
    _internal_kv_put(key, b"1", namespace=_NAMESPACE)


def forget(key: bytes) -> None:
    """Removes a key that nobody checks any more."""
    _internal_kv_del(key, namespace=_NAMESPACE)


def recalled(key: bytes) -> bool:
    """Whether the driver wants its tasks back."""
    return _internal_kv_exists(key, namespace=_NAMESPACE)


def checker(key: bytes, stage: str) -> Callable[[], None]:
    """A check that raises Cancelled after a recall; asks the head five times a second at most."""
    asked = -1.0

    def check() -> None:
        nonlocal asked
        now = time.monotonic()
        if now - asked >= _POLL_SECONDS:
            asked = now
            if recalled(key):
                raise Cancelled("recalled by the driver", stage)

    return check
