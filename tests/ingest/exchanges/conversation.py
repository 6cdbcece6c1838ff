"""Holds a conversation with an exchange that answers from a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ingest.exchanges.exchange import Conversation, HttpRequest

T = TypeVar("T")


def hold(conversation: Conversation[T], answers: Sequence[Any]) -> tuple[T, list[HttpRequest]]:
    """What the conversation came to, and the requests that were asked."""
    requests: list[HttpRequest] = []
    left = list(answers)
    try:
        request = next(conversation)
        while True:
            requests.append(request)
            request = conversation.send(left.pop(0))
    except StopIteration as end:
        return end.value, requests
