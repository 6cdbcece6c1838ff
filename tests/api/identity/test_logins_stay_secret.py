"""No token of a login, of a program or of a link is in a log line, a table or another answer."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from api.identity.operator import local_operator
from tests.api.identity.people import BOT_TOKEN, COOKIE, SETTINGS, browser, fresh, payload
from tests.api.identity.sharing import database, shared, url
from tests.api.identity.test_secrets_stay_secret import leaks, log
from tests.api.service.market import CLIENT_S
from tests.postgres import execute, rows

__all__ = ["database", "log", "shared", "url"]


def test_tokens_are_where_they_belong_and_nowhere_else(
    url: str, database: str, log: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = {BOT_TOKEN, SETTINGS.jwt.current.value.decode()}
    answers: list[httpx.Response] = []
    path = tmp_path / "operator.json"
    with browser(url) as ann, browser(url, None) as other, local_operator(database, path, url):
        secrets.add(ann.cookies[COOKIE])
        token = ann.post("/access-tokens", json={"name": "n", "scopes": ["read"]}).json()["token"]
        operator = json.loads(path.read_text())["token"]
        bearer = {"Authorization": f"Bearer {operator}"}
        link = other.post("/auth/links", headers=bearer).json()["path"]
        secrets |= {token, operator, link.rpartition("/")[2]}
        answers.append(other.get(link))
        answers.append(other.get(link, headers={"Accept": "text/html"}))
        secrets.add(other.cookies[COOKIE])
        for sent in (token, f"{token}x", operator[:-1]):
            answers.append(
                other.get("/account/export", headers={"Authorization": f"Bearer {sent}"})
            )
        for cookie in (f"{ann.cookies[COOKIE]}x", ann.cookies[COOKIE][5:], token):
            headers = {"Cookie": f"{COOKIE}={cookie}"}
            answers.append(
                httpx.get(
                    f"{url}/auth/sessions", headers=headers, trust_env=False, timeout=CLIENT_S
                )
            )
        answers.append(ann.get("/account/export"))
        answers.append(ann.get("/access-tokens"))
        answers.append(ann.get("/auth/sessions"))
        answers.append(other.post("/auth/telegram/login", json={**payload(), "hash": token}))
        answers.append(other.post("/auth/telegram/login", json={**payload(), "id": token}))
        answers.append(other.post(f"/access-tokens/{token}"))
        execute(database, "ALTER TABLE identity_sessions RENAME COLUMN network TO gone")
        answers.append(other.post("/auth/telegram/login", json=fresh(7)))
        execute(database, "ALTER TABLE identity_sessions RENAME COLUMN gone TO network")
        answers.append(ann.delete("/account"))
        answers.append(other.get("/openapi.json"))
        answers.append(other.get("/metrics"))
    assert {200, 204, 303, 401, 403, 405, 422, 500} <= {one.status_code for one in answers}
    tables = rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    places = {f"table {t}": str(rows(database, f"SELECT t::text FROM {t} t")) for (t,) in tables}
    # The client of this test is in the same process and tells all that it sends.
    places["log"] = "\n".join(line for line in log if not line.split()[1].startswith("http"))
    places["terminal"] = "".join(capfd.readouterr())
    assert "INSERT INTO identity_access_tokens" in places["log"]
    for number, answer in enumerate(answers):
        # What was sent comes back to nobody; what is set goes into a cookie alone.
        places[f"answer {number} {answer.request.method}"] = answer.text
    found = {place: leaks(secrets, said) for place, said in places.items()}
    assert {place: leaked for place, leaked in found.items() if leaked} == {}
