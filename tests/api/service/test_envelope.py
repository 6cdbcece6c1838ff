"""Every error has the one form; bodies above the limits are refused before they are read."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from api import bodies, readiness
from api.app import create_app
from api.context import AppContext
from api.errors import STATUS, Conflict, Forbidden
from api.schemas.errors import ErrorEnvelope
from api.schemas.examples import BACKTESTS, ESTIMATES
from api.settings import ApiSettings, SyncSettings
from api.users import DEVELOPER, HEADER, CurrentUser, developer, development_login, nobody
from cluster.jobs.durable import mark
from compute.errors import InvalidInput, InvalidRequest, RoehubError
from ingest.errors import StoreUnavailable

LIMITS = ApiSettings(max_body_bytes=20_000, max_axes=4, max_axis_values=500)
TEMPLATE = BACKTESTS["two indicators with stops"]


class Sent(BaseModel):
    """A body that the framework validates."""

    number: int


def application(login: Any = developer) -> FastAPI:
    """The service without stores, with routes that fail in every way."""
    app = create_app(AppContext(sync=SyncSettings(5.0), api=LIMITS, login=login))

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise {
            "input": InvalidInput("cannot be", details={"b": 1, "a": (1, {"z": object, "y": 2})}),
            "request": InvalidRequest(
                "Validation failed",
                [
                    {"path": f"body.items.{i}", "code": "c", "message": "m"} for i in (2, 10)
                ] + [{"path": "body.a", "code": "b", "message": "z"}],
            ),
            "store": StoreUnavailable("the store is away"),
            "forbidden": Forbidden("no"),
            "conflict": Conflict("not now"),
            "unknown": RoehubError("what is it"),
            "bug": KeyError("secret internals"),
        }[name]  # fmt: skip

    @app.post("/framework")
    async def framework(sent: Sent) -> int:
        return sent.number

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return str(user.user_id)

    return app


class Caller:
    """A synchronous client of an application, without a socket between them."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())


@pytest.fixture(scope="module")
def call() -> Caller:
    return Caller(application())


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    ErrorEnvelope.model_validate(response.json())
    error = response.json()["error"]
    assert STATUS[error["code"]] == status
    return error


def items_of(response: httpx.Response) -> dict[str, str]:
    error = error_of(response, 422)
    return {item["path"]: item["code"] for item in error["details"]["errors"]}


@pytest.mark.parametrize(
    ("name", "status", "code", "message"),
    [
        ("input", 422, "validation_error", "cannot be"),
        ("request", 422, "validation_error", "Validation failed"),
        ("store", 500, "unexpected_error", "the store is away"),
        ("forbidden", 403, "forbidden", "no"),
        ("conflict", 409, "conflict", "not now"),
        ("unknown", 500, "unexpected_error", "what is it"),
        ("bug", 500, "unexpected_error", "Unexpected backtest operation error"),
    ],
)
def test_errors_raised(call: Caller, name: str, status: int, code: str, message: str) -> None:
    response = call("GET", f"/raise/{name}")
    error = error_of(response, status)
    assert (error["code"], error["message"]) == (code, message)
    assert "secret" not in response.text


def test_details_are_sorted(call: Caller) -> None:
    details = call("GET", "/raise/input").json()["error"]["details"]
    assert [*details] == ["a", "b"]
    assert [*details["a"][1]] == ["y", "z"]
    items = call("GET", "/raise/request").json()["error"]["details"]["errors"]
    assert [item["path"] for item in items] == ["body.a", "body.items.10", "body.items.2"]


def test_paths_and_methods(call: Caller) -> None:
    assert error_of(call("GET", "/nothing"), 404)["details"] == {
        "method": "GET", "path": "/nothing",
    }  # fmt: skip
    wrong = call("DELETE", "/health")
    assert error_of(wrong, 405)["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "GET"
    error_of(call("GET", "/health/"), 404)
    error_of(call("GET", "/backtests"), 405)


@pytest.mark.parametrize(
    ("options", "path", "code"),
    [
        ({"json": {}}, "body.number", "required"),
        ({"json": {"number": "x"}}, "body.number", "int_parsing"),
        ({"content": b"{", "headers": {"content-type": "application/json"}},
         "body.1", "json_invalid"),
    ],
)  # fmt: skip
def test_bodies_that_the_framework_validates(
    call: Caller, options: dict[str, Any], path: str, code: str
) -> None:
    assert items_of(call("POST", "/framework", **options)) == {path: code}


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "line 1 column 2"),
        (b"", "line 1 column 1"),
        (b'{"a": 1, "a": 2}', "'a' comes twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"\xff\xfe", "utf-8"),
        (b'{"a": "\\ud800"}', "half a character"),
        (b'{"\\udfff": 1}', "half a character"),
        (b'{"a": 1' + 5_000 * b"0" + b"}", "digits"),
    ],
)
def test_what_is_no_json(call: Caller, content: bytes, said: str) -> None:
    response = call("POST", "/indicators/estimate", content=content, headers=JSON)
    assert items_of(response) == {"body": "json_invalid"}
    assert said in response.json()["error"]["message"]


@pytest.mark.parametrize("depth", [17, 1_000, 9_000])
def test_what_is_nested_too_deep(call: Caller, depth: int) -> None:
    content = depth * b"[" + depth * b"]"
    response = call("POST", "/indicators/estimate", content=content, headers=JSON)
    assert items_of(response) == {"body": "max_depth"}
    content = 16 * b"[" + 16 * b"]"
    response = call("POST", "/indicators/estimate", content=content, headers=JSON)
    assert items_of(response) == {"body": "object_type"}


def test_a_key_that_comes_twice_is_found_in_one_pass() -> None:
    compared = 0

    class Key(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [Key(f"key {i}") for i in range(500)] + [Key("key 499")]
    with pytest.raises(ValueError, match="'key 499' comes twice"):
        bodies._unique([(name, 1) for name in names])
    assert compared < 5_000


@pytest.mark.parametrize(
    "body", [{"keys": {str(i): 1 for i in range(2_000)}}, [{"key": 1}] * 1_001, [{"a": {}}] * 1_001]
)
def test_a_body_of_too_many_members(body: Any) -> None:
    settings = ApiSettings(max_members=1_000)
    with pytest.raises(InvalidRequest, match="more than 1000 members") as caught:
        bodies.decoded(json.dumps(body).encode(), settings)
    assert [item["code"] for item in caught.value.errors] == ["max_members"]
    assert bodies.decoded(json.dumps([{"key": 1}] * 1_000).encode(), settings)


@pytest.mark.parametrize(
    ("path", "place", "body"),
    [
        ("/backtests", "body.template.indicator_grids", "grids"),
        ("/indicators/estimate", "body.indicators", "indicators"),
    ],
)
def test_a_long_list_of_faults_is_one_fault(call: Caller, path: str, place: str, body: str) -> None:
    many = [1] * 5_000
    sent = {
        "grids": TEMPLATE | {"template": TEMPLATE["template"] | {"indicator_grids": many}},
        "indicators": next(iter(ESTIMATES.values())) | {"indicators": many},
    }[body]
    assert items_of(call("POST", path, json=sent)) == {place: "too_long"}


@pytest.mark.parametrize(("size", "beside"), [(1_000, False), (19_000, True)])
def test_large_bodies_are_decoded_beside_the_event_loop(
    call: Caller, monkeypatch: pytest.MonkeyPatch, size: int, beside: bool
) -> None:
    loops: list[bool] = []
    known = bodies.decoded

    def decoded(raw: bytes, settings: ApiSettings) -> Any:
        try:
            asyncio.get_running_loop()
            loops.append(True)
        except RuntimeError:
            loops.append(False)
        return known(raw, settings)

    monkeypatch.setattr(bodies, "decoded", decoded)
    response = call("POST", "/indicators/estimate", content=b"[]".ljust(size), headers=JSON)
    assert items_of(response) == {"body": "object_type"}
    assert loops == [not beside]


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", None])
def test_other_media_types(call: Caller, media: str | None) -> None:
    headers = {} if media is None else {"content-type": media}
    error = error_of(call("POST", "/backtests", content=b"{}", headers=headers), 415)
    assert error["details"]["supported"] == ["application/json"]
    charset = {"content-type": "Application/JSON; charset=utf-8"}
    assert call("POST", "/backtests", content=b"{}", headers=charset).status_code == 422


@pytest.mark.parametrize("path", ["/backtests", "/indicators/compute", "/framework"])
@pytest.mark.parametrize("declared", [True, False])
def test_bodies_above_the_limit(call: Caller, path: str, declared: bool) -> None:
    content: Any = b" " * 20_001

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(21):
            yield b" " * 1_000

    response = call("POST", path, content=content if declared else pieces(), headers=JSON)
    error = error_of(response, 413)
    assert error["details"] == {"error": "max_body_bytes_exceeded", "max_body_bytes": 20_000}
    assert "max_body_bytes" in error["message"]
    assert response.headers["connection"] == "close"


def test_a_body_as_large_as_the_limit(call: Caller) -> None:
    content = json.dumps(next(iter(ESTIMATES.values()))).encode().ljust(20_000)
    response = call("POST", "/indicators/estimate", content=content, headers=JSON)
    assert response.status_code == 200, response.text


async def posted(app: FastAPI, receive: Any) -> list[dict[str, Any]]:
    """What the application sends to a client whose body comes from `receive`."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": "POST", "path": "/backtests", "raw_path": b"/backtests", "query_string": b"",
        "root_path": "", "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_failure(call: Caller) -> None:
    async def left() -> Any:
        return {"type": "http.disconnect"}

    assert asyncio.run(posted(call.app, left)) == []
    counted = 'roehub_http_requests_total{method="POST",route="/backtests",status="%s"}'
    metrics = call("GET", "/metrics").text
    assert counted % 499 in metrics
    assert counted % 500 not in metrics


def test_a_body_that_does_not_come(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)

    async def silent() -> Any:
        await asyncio.Event().wait()

    start, body = asyncio.run(posted(call.app, silent))
    assert start["status"] == 422
    (item,) = json.loads(body["body"])["error"]["details"]["errors"]
    assert (item["path"], item["code"]) == ("body", "timeout")


def test_axes_and_their_values(call: Caller) -> None:
    error = error_of(call("POST", "/backtests", json=TEMPLATE), 422)
    assert error["details"] == {"axes": 8, "error": "max_axes_exceeded", "max_axes": 4}
    body = json.loads(json.dumps(next(iter(ESTIMATES.values()))))
    body["indicators"][0]["params"]["window"] |= {"stop_incl": 999_999}
    error = error_of(call("POST", "/indicators/estimate", json=body), 422)
    assert error["details"] == {
        "axis_values": 2 + 999_995 + 5,
        "error": "max_axis_values_exceeded",
        "max_axis_values": 500,
    }
    assert "max_axis_values" in error["message"]


def test_a_service_without_candles(call: Caller) -> None:
    app = create_app(AppContext(sync=SyncSettings(5.0), login=developer))
    error = error_of(Caller(app)("POST", "/backtests", json=TEMPLATE), 503)
    assert error["details"]["error"] == "compute_not_configured"
    error_of(call("GET", "/market-data/markets"), 503)
    ready = call("GET", "/ready")
    assert ready.status_code == 503
    assert ready.json() == {"status": "not ready", "checks": {"candle_store": "there is none"}}


def test_a_directory_that_does_not_answer_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()
    mark(tmp_path)

    def access(path: Path, mode: int) -> bool:
        asked.set()
        return answered.wait(30)  # as on a mount whose server is gone

    monkeypatch.setattr(readiness.os, "access", access)

    async def record() -> dict[str, Any]:
        checks: dict[str, readiness.Check] = {
            "results_dir": lambda: readiness._results_dir(tmp_path)
        }
        found = await readiness.Readiness(checks, check_s=0.01).record()
        assert await asyncio.to_thread(asked.wait, 30)
        answered.set()
        return found

    assert asyncio.run(record()) == {
        "status": "not ready", "checks": {"results_dir": "no answer within 0.01 s"},
    }  # fmt: skip


def test_users(call: Caller, caplog: pytest.LogCaptureFixture) -> None:
    assert call("GET", "/me").json() == str(DEVELOPER)
    other = "12345678-1234-5678-1234-567812345678"
    assert call("GET", "/me", headers={HEADER: other}).json() == other
    error = error_of(call("GET", "/me", headers={HEADER: "root"}), 401)
    assert error["code"] == "unauthorized"
    closed = Caller(application(nobody))
    assert error_of(closed("GET", "/me", headers={HEADER: other}), 401)["message"] == (
        "Authentication required"
    )
    # Who may not, learns nothing of the body's faults.
    error_of(closed("POST", "/backtests", content=b"{"), 401)
    assert development_login("prod") is nobody
    assert not caplog.records
    assert development_login("dev") is developer
    assert "never serve this to others" in caplog.text


def test_metrics_count_by_route(call: Caller) -> None:
    call("GET", "/raise/bug")
    call("GET", "/nothing/of-mine")
    call("GET", "/health")
    text = call("GET", "/metrics").text
    assert 'roehub_http_requests_total{method="GET",route="/raise/{name}",status="500"}' in text
    assert 'roehub_http_requests_total{method="GET",route="unmatched",status="404"}' in text
    assert 'roehub_http_request_seconds_bucket{le="0.001",method="GET",route="/health"}' in text
    assert "of-mine" not in text
