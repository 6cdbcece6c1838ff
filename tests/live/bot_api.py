"""A stand-in of Telegram's Bot API over HTTP: updates that wait, one reader at a time, and answers
that tests choose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

TOKEN = "123456:planted-secret"
BOT = {"id": 123456, "is_bot": True, "username": "roehub_test_bot"}
Scripted = tuple[int, str] | tuple[int, str, dict[str, str]]


class BotApi:
    """Remembers what it was asked; `answers` are given first, by method, whatever is asked then."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, list[Scripted]] = {}
        self.updates: list[dict[str, Any]] = []
        self.turn = 0
        self.conflicts = 0
        self.changed = Condition()
        self.open = True
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                method = self.path.rpartition("/")[2]
                with api.changed:
                    api.asked.append((self.path, body))
                    api.changed.notify_all()
                scripted = api.answers.get(method)
                status, text, *headers = scripted.pop(0) if scripted else api.answer(method, body)
                self.send_response(status)
                for name, value in (headers[0] if headers else {}).items():
                    self.send_header(name, value)
                data = text.encode()
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                return  # a client that did not wait for its answer

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def answer(self, method: str, body: dict[str, Any]) -> Scripted:
        """What Telegram would say."""
        if method == "getMe":
            return 200, json.dumps({"ok": True, "result": BOT})
        if method != "getUpdates":
            return 200, '{"ok": true, "result": {}}'
        with self.changed:
            self.turn += 1
            turn = self.turn
            self.changed.notify_all()
            offset = body.get("offset", 0)
            self.updates[:] = [one for one in self.updates if not _before(one, offset)]
            until = time.monotonic() + body["timeout"]
            while not self.updates and self.open and self.turn == turn:
                if not self.changed.wait(until - time.monotonic()):
                    break
            if self.turn != turn:  # the newest reader ends the one before
                self.conflicts += 1
                return 409, '{"ok": false, "error_code": 409, "description": "Conflict"}'
            return 200, json.dumps({"ok": True, "result": self.updates[:100]})

    def put(self, *updates: Any) -> None:
        """Updates that nobody has read yet."""
        with self.changed:
            self.updates += updates
            self.changed.notify_all()

    def asked_of(self, method: str) -> list[dict[str, Any]]:
        """The bodies of the calls of a method."""
        with self.changed:
            return [body for path, body in self.asked if path.endswith(f"/{method}")]

    def said(self) -> list[tuple[str, str]]:
        """(chat, text) of what was sent."""
        return [(body["chat_id"], body["text"]) for body in self.asked_of("sendMessage")]


def _before(update: Any, offset: int) -> bool:
    number = update.get("update_id") if isinstance(update, dict) else None
    return isinstance(number, int) and number < offset


def said_to_bot(update_id: int, text: Any, person: Any, **changes: Any) -> dict[str, Any]:
    """An update: a person writes to the bot in a chat with it alone."""
    return {
        "update_id": update_id,
        "message": {
            "message_id": update_id,
            "date": 1_700_000_000,
            "chat": {"id": person, "type": "private"},
            "from": {"id": person, "is_bot": False, "first_name": "Roe"},
            "text": text,
            **changes,
        },
    }


@contextmanager
def bot_api() -> Iterator[BotApi]:
    """The stand-in while it serves."""
    opened = BotApi()
    thread = Thread(target=opened.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield opened
    finally:
        with opened.changed:
            opened.open = False
            opened.changed.notify_all()
        opened.server.shutdown()
        thread.join()
        opened.server.server_close()
