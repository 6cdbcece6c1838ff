"""A client of a running service: jobs made, followed, listed, ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx

from api.credentials import TOKEN_NAME, URL_NAME, OperatorLogin, given_token, url_for
from api.identity.operator_file import operator_token
from compute.errors import InvalidInput, RoehubError

Record = dict[str, Any]

USER_NAME: Final = "ROEHUB_API_USER"
TERMINAL: Final = ("succeeded", "failed", "cancelled")
_REQUEST_SECONDS: Final = 60.0
_CONNECT_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 45.0  # three heartbeats
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 120.0
_REFUSALS: Final = (400, 401, 403, 404, 409, 413, 415, 422)


class ServiceUnreachable(RoehubError):
    """Nobody answers at the service's address."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(
            f"no service answers at {url} ({error or type(error).__name__}); start one with "
            f"`roehub up`, or name another with --api or {URL_NAME}",
            details={"url": url},
        )


class ServiceFailed(RoehubError):
    """The service answered that it failed, or something that is no answer of its.

    `code` is that of its error, where it sent one.
    """

    def __init__(
        self, message: str, *, code: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, details=details)
        self.code = code or RoehubError.code


class Refused(InvalidInput):
    """The service refused the request; `code` and `details` are those of its error."""

    def __init__(self, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message, details=details)
        self.code = code


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job."""

    event_id: str
    kind: str
    data: Record


class _Wait:
    """The pauses before a connection is made again; said once it cannot be at the first try."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self.over()

    def over(self) -> None:
        """The service answers."""
        self._since: float | None = None
        self._tries = 0

    def too_long(self) -> bool:
        """Whether a failure is one too many."""
        return self._since is not None and time.monotonic() - self._since > _PATIENCE_SECONDS

    def a_little(self) -> None:
        """Sleeps, longer each time."""
        self._since = self._since or time.monotonic()
        if self._tries == 1:
            self._say("the service does not answer; waiting for it")
        time.sleep(min(_FIRST_PAUSE_SECONDS * 2**self._tries, _LONGEST_PAUSE_SECONDS))
        self._tries += 1


class Client:
    """Talks to the service at `url`; a context manager.

    Without it that is ROEHUB_API_URL, else what `roehub up` on this machine serves.

    `token` is an access token, or `@FILE` to read one from; without it ROEHUB_TOKEN, then the file
    that ROEHUB_TOKEN_FILE names, then what `roehub up` on this machine left for its own service.
    As the `operator`, what `roehub up` left comes before the environment's. `user` is for a service
    with the development login.

    Raises, from every method: ServiceUnreachable, ServiceFailed, Refused.
    """

    def __init__(
        self,
        url: str | None = None,
        user: str | None = None,
        token: str | None = None,
        operator: bool = False,
    ) -> None:
        self.url = url_for(url, os.environ)
        user = user or os.environ.get(USER_NAME, "").strip()
        here = operator and operator_token(os.environ, self.url) is not None
        token = given_token(token, {} if here else os.environ)
        headers = {"X-Roehub-User": user} if user else {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._operator = OperatorLogin(self.url, os.environ) if token is None else None
        try:
            self._http = httpx.Client(
                base_url=self.url,
                timeout=httpx.Timeout(_REQUEST_SECONDS, connect=_CONNECT_SECONDS),
                headers=headers,
                auth=self._operator,
                trust_env=False,  # a proxy for web pages is none for this
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidInput(f"{self.url} is no URL: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def submit(self, body: object, key: str | None = None) -> Record:
        """The status of the job made of a request, or made before with the same key."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._json("POST", "/backtests/jobs", json=body, headers=headers)

    def job(self, job_id: str) -> Record:
        """The status of a job."""
        return self._json("GET", f"/backtests/jobs/{job_id}")

    def top(self, job_id: str, limit: int | None = None) -> Record:
        """The best variants of a job so far."""
        return self._json("GET", f"/backtests/jobs/{job_id}/top", params=_given(limit=limit))

    def page(
        self, state: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Record:
        """A page of the list of jobs."""
        query = _given(state=state, limit=limit, cursor=cursor)
        return self._json("GET", "/backtests/jobs", params=query)

    def cancel(self, job_id: str) -> Record:
        """The status of a job that was asked to stop."""
        return self._json("POST", f"/backtests/jobs/{job_id}/cancel")

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended."""
        with self._answered(f"/backtests/jobs/{job_id}"):
            _checked(self._http.delete(f"/backtests/jobs/{job_id}"), self._operator)

    def result(self, job_id: str) -> Record:
        """The result document of a job that succeeded."""
        return self._json("GET", f"/backtests/jobs/{job_id}/result")

    def report_url(self, job_id: str) -> str:
        """Where the report page of a job is."""
        return f"{self.url}/backtests/jobs/{job_id}/report"

    def reconcile(self, strategy_id: str, run_id: str) -> Record:
        """The report of a run that is held against its back-test now."""
        path = f"/strategies/{strategy_id}/runs/{run_id}/reconciliation"
        return self._json("POST", path)

    def login_link(self) -> str:
        """Where a browser is logged in, once and within a minute, as the local operator."""
        return self.url + self._json("POST", "/auth/links")["path"]

    def follow(
        self, job_id: str, after: str = "", say: Callable[[str], object] = lambda line: None
    ) -> Iterator[Event]:
        """The events of a job from `after` on, until its last one.

        A connection that breaks, or is silent for three heartbeats, is made again where it broke;
        `say` is told, once each time, when that takes waiting. So is a service that was started
        again and has not left its new token of the local operator yet.
        Raises: ServiceUnreachable after two minutes without an answer; Refused.
        """
        wait = _Wait(say)
        while True:
            try:
                for event in self._events(job_id, after, wait.over):
                    if event is None:
                        return
                    after = event.event_id
                    yield event
                    if event.kind == "state" and event.data["state"] in TERMINAL:
                        return
            except (httpx.TransportError, ServiceUnreachable, ServiceFailed) as error:
                if wait.too_long():
                    raise ServiceUnreachable(self.url, error) from error
            except Refused as error:
                if not self._renewed(error) or wait.too_long():
                    raise
            wait.a_little()

    def _renewed(self, error: Refused) -> bool:
        """Whether another token of the local operator may be on its way."""
        ours = self._operator is not None and self._operator.known
        return ours and error.code == "unauthorized"

    def _events(
        self, job_id: str, after: str, answers: Callable[[], None]
    ) -> Iterator[Event | None]:
        """Events of one connection; None where the last one of the job was seen before."""
        timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
        headers = {"Last-Event-ID": after} if after else {}
        path = f"/backtests/jobs/{job_id}/events"
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
            _checked(answer, self._operator)
            answers()
            if answer.status_code == httpx.codes.NO_CONTENT:
                yield None
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif not line and "data" in fields:
                    yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
                    fields = {}

    def _json(self, method: str, path: str, **options: Any) -> Record:
        with self._answered(path):
            answer = self._http.request(method, path, **options)
        _checked(answer, self._operator)
        try:
            return answer.json()
        except ValueError:
            raise ServiceFailed(
                f"what answers at {self.url} is no service of ours: {path} gave "
                f"{answer.headers.get('content-type', 'nothing')}; name another with --api"
            ) from None

    @contextmanager
    def _answered(self, path: str) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            if isinstance(error, httpx.ConnectTimeout):
                raise ServiceUnreachable(self.url, error) from error
            raise ServiceFailed(
                f"the service at {self.url} did not answer {path} in {_REQUEST_SECONDS:g} s"
            ) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServiceUnreachable(self.url, error) from error


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _checked(answer: httpx.Response, operator: OperatorLogin | None) -> None:
    """Raises what an answer that is an error says."""
    if answer.is_success:
        return
    try:
        error = answer.json()["error"]
        code, message, details = error["code"], error["message"], error["details"]
    except (ValueError, KeyError, TypeError):
        raise ServiceFailed(
            f"{answer.request.url} answered {answer.status_code}; is it a service of ours?"
        ) from None
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        if operator is not None and "Authorization" not in answer.request.headers:
            message += f"; {operator.advice()}"
        message += f"; make a token with `roehub token create` and set {TOKEN_NAME}"
    if answer.status_code in _REFUSALS:
        raise Refused(code, message, details)
    raise ServiceFailed(message, code=code, details=details)
