"""Programs: which token a client sends, the local operator's file, and `roehub token`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import httpx
import pytest

from api.client import Client, Refused
from api.credentials import DEFAULT_URL, token_for, url_for
from api.errors import Unauthorized
from api.identity.links import Links
from api.identity.operator import TOKEN_NAME, local_operator
from api.identity.operator_file import (
    OperatorFile,
    is_loopback,
    operator_path,
    operator_token,
    write_operator_file,
)
from api.identity.users import OPERATOR
from compute.errors import InvalidInput
from tests.api.identity.people import browser, refusal, user_id
from tests.api.identity.sharing import ann, database, shared, url
from tests.api.service.market import CLIENT_S
from tests.cluster.cli import call
from tests.postgres import rows

__all__ = ["ann", "database", "shared", "url"]
ME = "/auth/current-user"
HERE = "http://127.0.0.1:8000"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of this test's own."""
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ROEHUB_ENV", "test")
    return tmp_path


@pytest.fixture
def command(database: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database that the commands find."""
    monkeypatch.setenv("STRATEGY_PG_DSN", database)
    return database


def me(url: str, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{url}{ME}", headers=headers, trust_env=False, timeout=CLIENT_S)


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"ROEHUB_DATA_DIR": str(home), **more}


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A directory in which a service left a file."""
    path = operator_path(environment(tmp_path))
    write_operator_file(path, OperatorFile(HERE, "of-the-operator"))
    return tmp_path


def test_the_order_in_which_tokens_are_looked_for(left: Path) -> None:
    file = left / "mine"
    file.write_text("of-the-file\n")
    given = environment(left, ROEHUB_TOKEN="of-the-variable", ROEHUB_TOKEN_FILE=str(file))
    assert token_for(HERE, "of-the-flag", given) == "of-the-flag"
    assert token_for(HERE, f"@{file}", given) == "of-the-file"
    assert token_for(HERE, " ", given) == "of-the-variable"
    del given["ROEHUB_TOKEN"]
    assert token_for(HERE, None, given) == "of-the-file"
    del given["ROEHUB_TOKEN_FILE"]
    assert token_for(HERE, None, given) == "of-the-operator"
    assert token_for(HERE, None, {"ROEHUB_DATA_DIR": str(left / "other")}) is None


@pytest.mark.parametrize(
    ("url", "good"),
    [
        (HERE, True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://127.0.0.1:8001", False),
        ("https://127.0.0.1:8000", False),
        ("http://example.com:8000", False),
        ("http://127.0.0.1.example.com:8000", False),
    ],
)
def test_the_operators_token_goes_to_its_own_service_alone(
    left: Path, url: str, good: bool
) -> None:
    assert (operator_token(environment(left), url) == "of-the-operator") is good


def test_the_order_in_which_services_are_looked_for(left: Path) -> None:
    write_operator_file(operator_path(environment(left)), OperatorFile("http://127.0.0.1:9", "t"))
    given = environment(left, ROEHUB_API_URL="http://127.0.0.1:8")
    assert url_for("https://example.com:7/", given) == "https://example.com:7"
    assert url_for(None, given) == "http://127.0.0.1:8"
    assert url_for(None, environment(left)) == "http://127.0.0.1:9"
    assert url_for(None, environment(left, ROEHUB_ENV="prod")) == DEFAULT_URL
    assert url_for(None, environment(left / "other")) == DEFAULT_URL


@pytest.mark.parametrize("given", ["foo", "foo:8000", "ftp://host", "http://", "http://h:port"])
def test_what_is_no_url_is_bad_input(given: str) -> None:
    done = call("jobs", "list", "--api", given)
    assert done.status == 2
    assert f"'{given}' is no URL" in done.stderr


def test_there_is_no_operator_in_production(left: Path) -> None:
    assert operator_token(environment(left, ROEHUB_ENV="prod"), HERE) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 7}', '{"token": "t"}'])
def test_a_broken_file_is_none(left: Path, text: str) -> None:
    operator_path(environment(left)).write_text(text)
    assert operator_token(environment(left), HERE) is None


@pytest.mark.parametrize("given", ["two words", "no\nline", "é", "@/nowhere/token", "@{}"])
def test_what_is_no_token_is_refused_unrepeated(tmp_path: Path, given: str) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(InvalidInput) as caught:
        token_for(HERE, given.replace("{}", str(empty)), {})
    assert given.startswith("@") or given not in caught.value.message


def test_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "host", "", None))


def test_the_local_operator_is_logged_in_by_a_file(url: str, database: str, home: Path) -> None:
    path = operator_path(os.environ)
    with local_operator(database, path, url):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first = json.loads(path.read_text())["token"]
        assert me(url, first).json() == {"user_id": str(OPERATOR), "paid_level": "free"}
        with Client(url) as client:
            assert client._json("GET", ME)["user_id"] == str(OPERATOR)
            assert client._json("GET", "/access-tokens")["items"][0]["name"] == TOKEN_NAME
        path.unlink()
        # One that was killed leaves its file and its token; the next start forgets it.
        with local_operator(database, path, url):
            assert me(url, json.loads(path.read_text())["token"]).status_code == 200
            assert refusal(me(url, first), 401) == "invalid_access_token"
            second = json.loads(path.read_text())["token"]
            names = rows(database, "SELECT name FROM identity_access_tokens")
            assert names == [(TOKEN_NAME,)]  # they do not pile up
    assert not path.exists()
    assert refusal(me(url, second), 401) == "invalid_access_token"
    assert rows(database, "SELECT name FROM identity_access_tokens") == []
    assert rows(database, "SELECT user_id FROM identity_users") == [(OPERATOR,)]


def test_a_link_logs_a_browser_in_once(
    url: str, database: str, home: Path, ann: httpx.Client
) -> None:
    with local_operator(database, operator_path(os.environ), url):
        with pytest.MonkeyPatch.context() as patch:
            made = ann.post("/access-tokens", json={"name": "r", "scopes": ["read"]}).json()
            patch.setenv("ROEHUB_TOKEN", made["token"])
            link = call("login", "--api", url).stdout.strip()
            assert "lacks the scope" in call("login", "--token", made["token"]).stderr
        assert link.startswith(f"{url}/auth/links/")
        with browser(url, None) as client:
            client.cookies.set("roehub_place", "/%E2%82%AC")  # no place of ours: to the first page
            answer = client.get(link)
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            cookies = [one.partition("; ") for one in answer.headers.get_list("set-cookie")]
            (kept,) = [rest for one, _, rest in cookies if "roehub_place" in one]
            assert "Max-Age=0" in kept
            assert answer.headers["cache-control"] == "no-store"
            assert user_id(client) == OPERATOR
            assert refusal(client.post("/auth/links"), 403) == "access_token_required"
        with browser(url, None) as client:
            assert refusal(client.get(link), 401) == "used_link"
            assert refusal(client.get("/auth/links/x"), 401) == "used_link"
            token = ann.post("/access-tokens", json={"name": "n", "scopes": ["run"]}).json()
            bearer = {"Authorization": f"Bearer {token['token']}"}
            assert refusal(client.post("/auth/links", headers=bearer), 403) == "insufficient_scope"


def test_a_link_that_is_too_old_is_none() -> None:
    clock = [0]
    links = Links(lambda: clock[0])
    good, late = links.make(OPERATOR), links.make(OPERATOR)
    clock[0] = 59_999
    assert links.use(good) == OPERATOR
    clock[0] = 60_000
    with pytest.raises(Unauthorized):
        links.use(late)


def test_a_file_that_others_could_read_is_replaced_by_one_they_cannot(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    path.write_text("open to all")
    path.chmod(0o666)
    write_operator_file(path, OperatorFile(HERE, "t"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["operator.json"]
    assert "'t'" not in repr(OperatorFile(HERE, "t"))


def test_a_client_without_a_token_is_told_how_to_get_one(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(url) as client, pytest.raises(Refused) as caught:
        client.job("00000000-0000-0000-0000-000000000000")
    assert caught.value.code in ("unauthorized", "not_found")  # jobs are off in this service
    with Client(url) as client, pytest.raises(Refused, match="roehub token create") as caught:
        client._json("GET", ME)
    assert caught.value.details["error"] == "missing_jwt_cookie"
    assert f"no operator.json in {home} (is ROEHUB_DATA_DIR that" in caught.value.message
    write_operator_file(operator_path(os.environ), OperatorFile("http://127.0.0.1:9", "t"))
    with Client(url) as client, pytest.raises(Refused, match=r"is of the service at http.*:9;"):
        client._json("GET", ME)
    monkeypatch.setenv("ROEHUB_ENV", "prod")
    with Client(url) as client, pytest.raises(Refused, match="no local operator in production"):
        client._json("GET", ME)


def test_tokens_from_the_command_line(command: str, url: str) -> None:
    made = call("token", "create", "--name", "notebook", "--scope", "read", "--days", 7)
    assert made.status == 0, made.stderr
    token = made.stdout.strip()
    assert "may read until" in made.stderr
    assert token not in made.stderr
    assert me(url, token).json()["user_id"] == str(OPERATOR)
    listed = call("token", "list", "--json")
    (one,) = json.loads(listed.stdout)["items"]
    assert (one["name"], one["scopes"]) == ("notebook", ["read"])
    assert token not in listed.stdout
    assert one["token_id"] in call("token", "list").stdout
    revoked = call("token", "revoke", one["token_id"])
    assert revoked.status == 0
    assert refusal(me(url, token), 401) == "revoked_access_token"
    assert "revoked" in call("token", "list").stdout
    again = call("token", "revoke", one["token_id"])
    assert (again.status, again.stdout) == (2, "")
    events = "SELECT event FROM identity_audit ORDER BY event_id"
    assert rows(command, events) == [("access_token.made",), ("access_token.revoked",)]


def test_tokens_of_another_user(command: str, url: str, ann: httpx.Client) -> None:
    mine = str(user_id(ann))
    made = call("token", "create", "--user", mine, "--json")
    new = json.loads(made.stdout)
    assert new["scopes"] == ["read", "run"]
    assert me(url, new["token"]).json()["user_id"] == mine
    assert call("token", "list").stdout == "no tokens\n"
    assert new["token_id"] in call("token", "list", "--user", mine).stdout
    assert call("token", "revoke", new["token_id"]).status == 2
    assert call("token", "revoke", new["token_id"], "--user", mine).status == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--scope", "account"), "--scope is read or run"),
        (("create", "--name", " "), "--name has 1 to 100"),
        (("create", "--user", "ann"), "--user is no UUID"),
        (("create", "--user", "00000000-0000-0000-0000-00000000000a"), "there is no user"),
        (("revoke", "first"), "TOKEN_ID is no UUID"),
    ],
)
def test_bad_input(command: str, arguments: tuple[str, ...], said: str) -> None:
    done = call("token", *arguments)
    assert done.status == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_production_has_no_local_operator_to_make_tokens_for(
    command: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROEHUB_ENV", "prod")
    done = call("token", "create")
    assert (done.status, done.stdout) == (2, "")
    assert "name a --user" in done.stderr
    with browser(url) as ann:
        assert call("token", "create", "--user", user_id(ann)).status == 0
