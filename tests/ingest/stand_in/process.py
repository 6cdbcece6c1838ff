"""The stand-in as a process that tests start, break, kill and start again."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest.stores.settings import ClickHouseSettings

ROOT = Path(__file__).parents[3]
DATABASE = "market_data"


class StandIn:
    """A stand-in for a ClickHouse server over a directory, on a port that it keeps."""

    def __init__(self, directory: Path, password: str = "secret") -> None:
        self.directory = directory
        self.password = password
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def settings(self) -> ClickHouseSettings:
        """How a client reaches it."""
        return ClickHouseSettings(
            host="127.0.0.1", port=self.port, password=self.password, database=DATABASE
        )

    @property
    def environ(self) -> dict[str, str]:
        """The same as environment variables."""
        return {
            "CH_HOST": "127.0.0.1",
            "CH_PORT": str(self.port),
            "CH_PASSWORD": self.password,
            "CH_DATABASE": DATABASE,
        }

    def start(self) -> None:
        """Starts it; the port is the one it had before."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "tests.ingest.stand_in.server",
            str(self.directory), str(self.port), self.password,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in ended with {self._process.wait()}")
        self.port = int(line)

    def kill(self) -> None:
        """Ends it at once, as a crash would; what it acknowledged is on disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def fail(self, kind: str, number: int = 0, *, times: int = 1, matching: str = "") -> None:
        """Makes the next `times` queries that contain `matching` fail; see `server.Fault`."""
        asked = {"kind": kind, "times": times, "number": number, "matching": matching}
        self._post("fault", json.dumps(asked).encode())

    def seen(self) -> list[str]:
        """The text of every query it has worked on, in order."""
        return json.loads(self._post("seen", b""))

    def _post(self, name: str, body: bytes) -> bytes:
        address = f"http://127.0.0.1:{self.port}/stand-in/{name}"
        with urllib.request.urlopen(address, data=body, timeout=10) as answer:
            return answer.read()
