"""A stand-in for a ClickHouse server: its HTTP interface, spoken over the engine of chDB.

No ClickHouse server can be installed from a package index, so this lets the real HTTP client of
`clickhouse_connect` talk to the real engine over loopback. It covers what that client sends: query
text in the body or the URL, parameters, settings, a database, form fields, inserts in any format,
sessions that refuse a second query, a user and a password, error codes in headers. It is a program
of its own, because an engine belongs to one process:

    python -m tests.ingest.stand_in.server DIRECTORY PORT PASSWORD
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

import chdb

# Parameters of the interface itself; every other one is a setting of the query.
_OWN: Final = frozenset(
    {
        "query", "database", "session_id", "session_timeout", "session_check", "query_id",
        "quota_key", "compress", "decompress", "wait_end_of_query", "client_protocol_version",
        "role", "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "enable_http_compression", "buffer_size", "default_format",
    }
)  # fmt: skip
_FORMAT: Final = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_INSERT: Final = re.compile(r"\s*INSERT\s+INTO\b", re.IGNORECASE)
_CREATE: Final = re.compile(r"\s*CREATE\s+TABLE\b", re.IGNORECASE)
_CODE: Final = re.compile(r"Code: (\d+)")


@dataclass(slots=True)
class Fault:
    """What the next `times` queries that match get instead of an answer.

    `kind`: an HTTP status without a code (`status`), an exception code (`code`), no answer at all
    (`drop`), the answer never sent although the work is done (`lose`), so many bytes of it and no
    length (`cut`), or a late one (`slow`).
    """

    kind: str
    times: int
    number: int = 0
    matching: str = ""


class Engine:
    """chDB over a directory; every query has a handle of its own, as every request a session."""

    def __init__(self, directory: Path, password: str) -> None:
        self.password = password
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.sessions: set[str] = set()
        self.turn = threading.Lock()
        self._path = str(directory)
        self._open = chdb.connect(self._path)

    def answer(self, query: str, data: bytes, params: dict[str, str]) -> tuple[bytes, str]:
        """The result's bytes and their format; chDB's RuntimeError when it is refused."""
        handle = chdb.connect(self._path)
        try:
            handle.query("SET max_threads = 1", "TabSeparated")  # with two, chDB may hang
            if database := params.get("database"):
                handle.query(f"USE {_quoted(database)}", "TabSeparated")
            for name, value in params.items():
                if name not in _OWN and not name.startswith("param_"):
                    handle.query(f"SET {name} = {_text(value)}", "TabSeparated")
            bound = {name[6:]: value for name, value in params.items() if name[:6] == "param_"}
            if _INSERT.match(query) and data:
                with tempfile.NamedTemporaryFile(suffix=".insert") as file:
                    file.write(data)
                    file.flush()
                    return self._inserted(handle, query, file.name), "TabSeparated"
            text = query + data.decode()
            found = _FORMAT.search(text)
            form = found[1] if found else "TabSeparated"
            result = handle.query(text, form, params=bound)
            if _CREATE.match(text):
                # Tests have clocks of their own: no row may expire under them.
                handle.query("SYSTEM STOP TTL MERGES", "TabSeparated")
            return (result.bytes() if result is not None else b"") or b"", form
        finally:
            handle.close()

    def _inserted(self, handle: Any, query: str, file: str) -> bytes:
        found = _FORMAT.search(query)
        if found is None:
            raise RuntimeError("Code: 62. DB::Exception: the stand-in inserts in a FORMAT only")
        head = query[: found.start()]
        handle.query(f"{head} FROM INFILE {_text(file)} FORMAT {found[1]}", "TabSeparated")
        return b""


class Server(ThreadingHTTPServer):
    """The stand-in: an HTTP server with an engine behind it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, engine: Engine) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.engine = engine


class Handler(BaseHTTPRequestHandler):
    """One connection; HTTP 1.1, so that the client keeps it."""

    protocol_version = "HTTP/1.1"
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            self._send(200, b"Ok.\n", {})
        else:
            self._query()

    def do_POST(self) -> None:
        if urlsplit(self.path).path == "/stand-in/fault":
            asked = json.loads(self._body())
            with self.server.engine.turn:
                self.server.engine.faults.append(Fault(**asked))
            self._send(200, b"Ok.\n", {})
        elif urlsplit(self.path).path == "/stand-in/seen":
            with self.server.engine.turn:
                body = json.dumps(self.server.engine.seen).encode()
            self._send(200, body, {})
        else:
            self._query()

    def _query(self) -> None:
        engine = self.server.engine
        query, data, params = self._asked()
        fault = self._fault(query + data[:1000].decode("utf-8", "replace"))
        if fault is not None and self._failed(fault):
            return
        if not self._welcome():
            self._refuse(516, "default: Authentication failed (AUTHENTICATION_FAILED)", 403)
            return
        session = params.get("session_id")
        with engine.turn:
            engine.seen.append(query or data[:1000].decode("utf-8", "replace"))
            if session in engine.sessions:
                self._refuse(373, "Session is locked by a concurrent client (SESSION_IS_LOCKED)")
                return
            if session:
                engine.sessions.add(session)
        try:
            body, form = engine.answer(query, data, params)
        except RuntimeError as error:
            text = str(error)
            found = _CODE.search(text)
            self._refuse(int(found[1]) if found else 1000, text[text.find("Code: ") :], whole=True)
            return
        finally:
            with engine.turn:
                engine.sessions.discard(session or "")
        if fault is not None and fault.kind == "lose":
            self.close_connection = True
            return
        if fault is not None and fault.kind == "cut":
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body[: fault.number])
            return
        headers = {
            "X-ClickHouse-Format": form,
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": "{}",
        }
        self._send(200, body, headers)

    def _asked(self) -> tuple[str, bytes, dict[str, str]]:
        """Query text of the URL or the form, the body, the parameters."""
        params = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self._body()
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            parser = email.parser.BytesParser(policy=email.policy.HTTP)
            message = parser.parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
            for part in message.walk():
                if part.is_multipart():
                    continue
                name = str(part.get_param("name", header="content-disposition"))
                params[name] = cast(bytes, part.get_payload(decode=True)).decode()
            body = b""
        return params.pop("query", ""), body, params

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks: list[bytes] = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _welcome(self) -> bool:
        pair = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
        return pair.decode() == f"default:{self.server.engine.password}"

    def _fault(self, text: str) -> Fault | None:
        with self.server.engine.turn:
            for fault in self.server.engine.faults:
                if fault.times > 0 and fault.matching in text:
                    fault.times -= 1
                    return fault
        return None

    def _failed(self, fault: Fault) -> bool:
        """Whether the fault was all the answer there is."""
        if fault.kind == "status":
            self._send(fault.number, b"", {})
        elif fault.kind == "code":
            self._refuse(fault.number, "fault of the stand-in (FAULT)")
        elif fault.kind == "drop":
            self.close_connection = True
        elif fault.kind == "slow":
            time.sleep(fault.number / 1000)
            return False
        else:
            return False
        return True

    def _refuse(self, code: int, text: str, status: int = 500, *, whole: bool = False) -> None:
        body = text if whole else f"Code: {code}. DB::Exception: {text}"
        headers = {"X-ClickHouse-Exception-Code": str(code)}
        self._send(404 if code in (60, 81) else status, f"{body}\n".encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; charset=UTF-8", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def main() -> None:
    """Serves until it is ended; prints the port once it answers."""
    directory, port, password = sys.argv[1:]
    server = Server(int(port), Engine(Path(directory), password))
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
