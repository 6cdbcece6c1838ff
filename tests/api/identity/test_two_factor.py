"""The second factor over HTTP: every path, every refusal, and what happens at the same time."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from api.identity.envelope import TOTP, Vault, totp_binding
from api.identity.two_factor import OF_ADDRESS, SET_UPS
from tests.api.identity.secret_service import Users, refused, running_users, service, users
from tests.postgres import rows

__all__ = ["service", "users"]

PATHS = [
    ("GET", "/2fa", None),
    ("POST", "/2fa/setup", None),
    ("POST", "/2fa/verify", {"code": "123456"}),
    ("POST", "/2fa/step-up", {"code": "123456"}),
    ("POST", "/2fa/reset", {"recovery_code": "A" * 24}),
    ("POST", "/2fa/recovery-codes", None),
    ("DELETE", "/2fa", None),
]


def at_once(*calls: Any) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_a_user_goes_from_absent_to_pending_to_enabled(users: Users) -> None:
    ann = users.person()
    absent = {
        "state": "absent", "enabled_at": None, "recovery_codes_left": 0, "stepped_up_until": None,
    }  # fmt: skip
    assert ann.get("/2fa").json() == absent
    uri = ann.set_up()
    assert uri == f"otpauth://totp/Roehub:{ann.user_id}?secret={ann.secret}&issuer=Roehub"
    assert re.fullmatch("[A-Z2-7]{32}", ann.secret)
    assert ann.get("/2fa").json() == absent | {"state": "pending"}
    done = ann.post("/2fa/verify", {"code": f" {ann.code()} "})
    assert done.json()["enabled"] is True
    assert done.headers["cache-control"] == "no-store"
    status = ann.get("/2fa").json()
    assert (status["state"], status["recovery_codes_left"]) == ("enabled", 10)
    assert status["enabled_at"].endswith("Z")
    assert status["stepped_up_until"] > status["enabled_at"]
    assert ann.events() == ["two_factor.set_up", "two_factor.enabled"]


def test_a_second_set_up_changes_the_secret(users: Users) -> None:
    ann = users.person()
    ann.set_up()
    first, before = ann.code(), ann.secret
    ann.set_up()
    assert ann.secret != before
    if first not in {ann.code(steps) for steps in (-1, 0, 1)}:
        refused(ann.post("/2fa/verify", {"code": first}), 422, "invalid_two_factor_code")
    assert ann.post("/2fa/verify", {"code": ann.code()}).status_code == 200


def test_set_ups_are_limited(users: Users) -> None:
    ann = users.person()
    for _ in range(SET_UPS.free):
        assert ann.post("/2fa/setup").status_code == 200
    refused(ann.post("/2fa/setup"), 429, "too_many_attempts")


def test_what_is_enabled_stays_as_it_is(users: Users) -> None:
    ann = users.person()
    ann.enable()
    before = ann.row()
    refused(ann.post("/2fa/setup"), 409, "two_factor_already_enabled")
    users.clock.next_step()
    found = ann.post("/2fa/verify", {"code": ann.code()})
    refused(found, 409, "two_factor_already_enabled")
    assert ann.row() == before


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_code_of_the_steps_around_now_is_good(users: Users, steps: int) -> None:
    ann = users.person()
    ann.set_up()
    assert ann.post("/2fa/verify", {"code": ann.code(steps)}).status_code == 200


@pytest.mark.parametrize("steps", [-2, 2])
def test_a_code_of_another_time_is_not(users: Users, steps: int) -> None:
    ann = users.person()
    ann.set_up()
    while ann.code(steps) in {ann.code(near) for near in (-1, 0, 1)}:
        users.clock.next_step()
    refused(ann.post("/2fa/verify", {"code": ann.code(steps)}), 422, "invalid_two_factor_code")
    assert ann.get("/2fa").json()["state"] == "pending"
    assert ann.events()[-1] == "two_factor.code_refused"


def test_the_checks_come_in_the_order_of_the_contract(users: Users) -> None:
    ann = users.person()
    # The form of a code before everything else,
    refused(ann.post("/2fa/verify", {"code": "12345"}), 422, "invalid_two_factor_code")
    # then that there was a set-up, then that it is not enabled, then the code.
    refused(ann.post("/2fa/verify", {"code": "123456"}), 422, "two_factor_setup_required")
    ann.enable()
    refused(ann.post("/2fa/verify", {"code": "12345x"}), 422, "invalid_two_factor_code")
    refused(ann.post("/2fa/verify", {"code": ann.wrong_code()}), 409, "two_factor_already_enabled")


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "12345a", "１２３４５６", "١٢٣٤٥٦", "12 456", "x" * 100]
)
def test_a_code_is_six_ascii_digits(users: Users, code: str) -> None:
    ann = users.person()
    ann.enable()
    for path in ("/2fa/verify", "/2fa/step-up"):
        found = refused(ann.post(path, {"code": code}), 422, "invalid_two_factor_code")
        (item,) = found["details"]["errors"]
        assert (item["path"], item["code"]) == ("body.code", "invalid_two_factor_code")
        assert not code or code not in str(found)


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({}, "body.code", "required"),
        ({"code": None}, "body.code", "string_type"),
        ({"code": 123456}, "body.code", "string_type"),
        ({"code": "1" * 101}, "body.code", "too_long"),
        ({"code": "123456", "more": 1}, "body.more", "extra_forbidden"),
        ([], "body", "model_type"),
    ],
)
def test_a_body_of_another_shape_is_refused(
    users: Users, body: object, path: str, code: str
) -> None:
    ann = users.person()
    ann.set_up()
    first = ann.post("/2fa/verify", body)
    assert first.status_code == 422
    (item,) = first.json()["error"]["details"]["errors"]
    assert (item["path"], item["code"]) == (path, code)
    assert "1111" not in first.text
    assert ann.post("/2fa/verify", body).content == first.content


def test_bodies_are_json(users: Users) -> None:
    ann = users.person()
    ann.set_up()
    post = ann.client.post
    broken = post("/2fa/verify", content=b'{"code"', headers={"content-type": "application/json"})
    assert broken.status_code == 422
    assert post("/2fa/verify", data={"code": "123456"}).status_code == 415


@pytest.mark.parametrize(("method", "path", "body"), PATHS)
def test_nobody_and_whoever_is_logged_out_are_refused(
    users: Users, method: str, path: str, body: object
) -> None:
    nobody = users.client().request(method, path, json=body)
    assert nobody.status_code == 401
    assert nobody.json()["error"]["code"] == "unauthorized"
    ann = users.person()
    assert ann.post("/auth/logout").status_code == 204
    assert ann.client.request(method, path, json=body).status_code == 401


@pytest.mark.parametrize(("method", "path", "body"), [p for p in PATHS if p[0] != "GET"])
def test_a_page_of_another_site_is_refused(
    users: Users, method: str, path: str, body: object
) -> None:
    ann = users.person()
    ann.client.headers["Sec-Fetch-Site"] = "cross-site"
    refused(ann.client.request(method, path, json=body), 403, "cross_site_request")


def test_two_verifications_at_once_are_one(users: Users) -> None:
    for _ in range(3):
        ann = users.person()
        ann.set_up()
        verify = ("/2fa/verify", {"code": ann.code()})
        found = at_once(*[lambda v=verify, a=ann: a.post(*v)] * 4)
        assert sorted(one.status_code for one in found) == [200, 409, 409, 409]
        assert ann.get("/2fa").json()["recovery_codes_left"] == 10
        assert ann.events().count("two_factor.enabled") == 1


def test_a_code_sent_twice_at_once_steps_up_once(users: Users) -> None:
    for _ in range(3):
        ann = users.person()
        ann.enable()
        users.clock.next_step()
        step = ("/2fa/step-up", {"code": ann.code()})
        found = at_once(*[lambda s=step, a=ann: a.post(*s)] * 4)
        assert sorted(one.status_code for one in found) == [200, 422, 422, 422]
        assert ann.events().count("two_factor.stepped_up") == 1


def test_a_code_works_once(users: Users) -> None:
    ann = users.person()
    ann.enable()  # by the code of this step
    found = refused(ann.post("/2fa/step-up", {"code": ann.code()}), 422, "invalid_two_factor_code")
    assert "was used" in found["message"]
    refused(ann.post("/2fa/step-up", {"code": ann.code(-1)}), 422, "invalid_two_factor_code")
    assert ann.post("/2fa/step-up", {"code": ann.code(1)}).status_code == 200
    users.clock.next_step()
    refused(ann.post("/2fa/step-up", {"code": ann.code()}), 422, "invalid_two_factor_code")
    users.clock.next_step()
    assert ann.post("/2fa/step-up", {"code": ann.code()}).status_code == 200


def test_a_step_up_is_of_one_session_and_ends(users: Users) -> None:
    ann = users.person()
    ann.enable()
    elsewhere = users.person(ann)
    assert elsewhere.get("/2fa").json()["stepped_up_until"] is None
    refused(elsewhere.post("/2fa/recovery-codes"), 403, "step_up_required")
    ann.forget_step_up(9)
    assert ann.post("/2fa/recovery-codes").status_code == 200
    ann.forget_step_up(1)
    assert ann.get("/2fa").json()["stepped_up_until"] is None
    found = refused(ann.post("/2fa/recovery-codes"), 403, "step_up_required")
    assert found["message"] == "A fresh code is needed: POST /2fa/step-up."
    ann.step_up()
    assert ann.post("/2fa/recovery-codes").status_code == 200


def test_the_minutes_of_a_step_up_are_a_setting(postgres: str) -> None:
    with running_users(postgres, step_up_minutes=3) as few:
        ann = few.person()
        ann.enable()
        ann.forget_step_up(2)
        assert ann.post("/2fa/recovery-codes").status_code == 200
        ann.forget_step_up(1)
        refused(ann.post("/2fa/recovery-codes"), 403, "step_up_required")


@pytest.mark.parametrize(("method", "path", "body"), PATHS[3:])
def test_what_needs_a_second_factor_is_refused_without(
    users: Users, method: str, path: str, body: object
) -> None:
    ann = users.person()
    for _ in ("absent", "pending"):
        found = refused(ann.client.request(method, path, json={}), 403, "two_factor_required")
        assert found["message"] == "Two-factor authentication must be enabled."
        ann.set_up()


def test_what_the_gate_refuses_is_logged(users: Users, caplog: pytest.LogCaptureFixture) -> None:
    ann = users.person()
    with caplog.at_level("WARNING", "api.identity"):
        ann.get("/exchange-keys")
        ann.enable()
        ann.forget_step_up()
        ann.post("/2fa/recovery-codes")
        for _ in range(6):
            ann.post("/2fa/step-up", {"code": ann.wrong_code()})
    assert caplog.messages == [
        f"no second factor: user {ann.user_id} is refused",
        f"no fresh code: user {ann.user_id} is refused",
        "limit two_factor_user: an attempt is refused",
    ]


# Recovery codes


def test_ten_recovery_codes_are_shown_and_kept_as_hashes(users: Users) -> None:
    ann = users.person()
    codes = ann.enable()
    assert len({*codes}) == 10
    assert all(re.fullmatch("([A-Z2-7]{4}-){5}[A-Z2-7]{4}", code) for code in codes)
    query = "SELECT code_hash FROM identity_recovery_codes WHERE user_id = $1"
    kept = rows(users.database, query, ann.user_id)
    assert {len(bytes(code)) for (code,) in kept} == {32}  # type: ignore[arg-type]
    assert len(kept) == 10


@pytest.mark.parametrize("form", ["{}", " {}\n", "lower", "plain"])
def test_a_recovery_code_resets_the_second_factor(users: Users, form: str) -> None:
    ann = users.person()
    codes = ann.enable()
    before = ann.secret
    forms = {"lower": codes[3].lower(), "plain": codes[3].replace("-", "")}
    sent = forms.get(form) or form.format(codes[3])
    done = ann.post("/2fa/reset", {"recovery_code": sent})
    assert (done.status_code, done.content) == (204, b"")
    assert ann.get("/2fa").json()["state"] == "absent"
    assert ann.events()[-1] == "two_factor.reset"
    refused(ann.get("/exchange-keys"), 403, "two_factor_required")
    again = ann.enable()
    assert ann.secret != before
    assert not {*again} & {*codes}
    refused(ann.post("/2fa/reset", {"recovery_code": codes[4]}), 422, "invalid_recovery_code")


def test_a_fresh_code_switches_it_off(users: Users) -> None:
    ann = users.person()
    codes = ann.enable()
    elsewhere = users.person(ann)
    refused(elsewhere.delete("/2fa"), 403, "step_up_required")
    assert ann.delete("/2fa").status_code == 204
    assert ann.get("/2fa").json()["state"] == "absent"
    assert ann.events()[-1] == "two_factor.disabled"
    refused(ann.delete("/2fa"), 403, "two_factor_required")
    ann.enable()
    refused(ann.post("/2fa/reset", {"recovery_code": codes[0]}), 422, "invalid_recovery_code")


def test_nothing_else_resets_it(users: Users) -> None:
    ann, bob = users.person(), users.person()
    ann.enable()
    others = bob.enable()
    before = ann.row()
    for code in ("", "x", "A" * 23, "A" * 25, "0" * 24, "A" * 24, others[0], ann.code()):
        users.execute("DELETE FROM identity_limits")
        sent = {"recovery_code": code}
        found = refused(ann.post("/2fa/reset", sent), 422, "invalid_recovery_code")
        assert not code or code not in str(found).split()
    assert ann.row() == before
    assert bob.get("/2fa").json()["recovery_codes_left"] == 10
    assert ann.events().count("two_factor.recovery_code_refused") == 2


def test_a_recovery_code_used_twice_at_once_resets_once(users: Users) -> None:
    ann = users.person()
    sent = {"recovery_code": ann.enable()[0]}
    found = at_once(*[lambda: ann.post("/2fa/reset", sent)] * 4)
    statuses = sorted(one.status_code for one in found)
    assert statuses[0] == 204
    assert {*statuses[1:]} <= {403, 422}
    assert ann.events().count("two_factor.reset") == 1


def test_renewed_codes_replace_those_before(users: Users) -> None:
    ann = users.person()
    before = ann.enable()
    response = ann.post("/2fa/recovery-codes")
    codes = response.json()["recovery_codes"]
    assert response.headers["cache-control"] == "no-store"
    assert len({*codes, *before}) == 20
    assert ann.events()[-1] == "two_factor.recovery_codes_renewed"
    refused(ann.post("/2fa/reset", {"recovery_code": before[0]}), 422, "invalid_recovery_code")
    assert ann.post("/2fa/reset", {"recovery_code": codes[9]}).status_code == 204


def test_a_reset_ends_step_ups_of_all_sessions(users: Users) -> None:
    ann = users.person()
    codes = ann.enable()
    elsewhere = users.person(ann)
    elsewhere.step_up()
    ann.post("/2fa/reset", {"recovery_code": codes[0]})
    query = "SELECT count(*) FROM identity_step_ups WHERE user_id = $1"
    assert rows(users.database, query, ann.user_id) == [(0,)]


# Limits


@pytest.mark.parametrize("path", ["/2fa/verify", "/2fa/step-up", "/2fa/reset"])
def test_guessing_is_locked_out(users: Users, path: str) -> None:
    ann = users.person()
    if path == "/2fa/verify":
        ann.set_up()
    else:
        ann.enable()
        users.clock.next_step()
    guess = {"recovery_code": "A" * 24} if path == "/2fa/reset" else {"code": ann.wrong_code()}
    before = ann.row()
    for _ in range(5):
        assert ann.post(path, guess).status_code == 422
    found = ann.post(path, guess)
    error = refused(found, 429, "too_many_attempts")
    assert error["code"] == "too_many_requests"
    assert 1 <= int(found.headers["retry-after"]) <= 30
    if path != "/2fa/reset":  # a good code is not looked at, and not used up
        refused(ann.post(path, {"code": ann.code()}), 429, "too_many_attempts")
    assert ann.row() == before
    query = "SELECT rule FROM identity_limits WHERE subject = $1 AND blocked_until IS NOT NULL"
    assert len(rows(users.database, query, str(ann.user_id))) == 1


def test_the_lock_out_grows_and_a_good_code_ends_it(users: Users) -> None:
    ann = users.person()
    ann.enable()
    users.clock.next_step()
    waits: list[int] = []
    for _ in range(8):
        found = ann.post("/2fa/step-up", {"code": ann.wrong_code()})
        if found.status_code == 429:
            waits.append(int(found.headers["retry-after"]))
            users.execute("UPDATE identity_limits SET blocked_until = now()")
    assert waits == [pytest.approx(30, abs=3), pytest.approx(60, abs=3)]
    users.execute("UPDATE identity_limits SET blocked_until = now()")
    assert ann.post("/2fa/step-up", {"code": ann.code()}).status_code == 200
    left = rows(users.database, "SELECT rule FROM identity_limits ORDER BY rule")
    assert left == [("two_factor_address",), ("two_factor_set_up",)]


def test_guesses_at_once_are_counted_like_others(users: Users) -> None:
    ann = users.person()
    ann.set_up()
    guess = {"code": ann.wrong_code()}
    found = at_once(*[lambda: ann.post("/2fa/verify", guess)] * 12)
    assert sorted(one.status_code for one in found) == [422] * 5 + [429] * 7


def test_attempts_of_one_address_count_together(users: Users) -> None:
    statuses: list[int] = []
    for _ in range(6):
        ann = users.person()
        ann.set_up()
        guess = {"code": ann.wrong_code()}
        statuses += [ann.post("/2fa/verify", guess).status_code for _ in range(4)]
    assert statuses == [422] * 20 + [429] * 4


def test_good_codes_of_one_user_forgive_no_guesses_at_those_of_others(users: Users) -> None:
    mallory = users.person()
    mallory.enable()
    for _ in range(5):
        ann = users.person()
        ann.set_up()
        for _ in range(3):
            assert ann.post("/2fa/verify", {"code": ann.wrong_code()}).status_code == 422
        mallory.step_up()
    query = "SELECT attempts FROM identity_limits WHERE rule = 'two_factor_address'"
    assert rows(users.database, query) == [(15,)]


def test_good_codes_do_not_use_up_the_attempts_of_their_address(users: Users) -> None:
    ann = users.person()
    ann.enable()
    for _ in range(OF_ADDRESS.free + 1):
        ann.step_up()


# What is stored


def test_a_secret_of_somebody_else_is_no_second_factor(users: Users) -> None:
    ann, bob = users.person(), users.person()
    ann.set_up()
    bob.set_up()
    users.execute(
        "UPDATE identity_2fa SET totp_secret_enc = (SELECT totp_secret_enc FROM identity_2fa "
        f"WHERE user_id = '{bob.user_id}') WHERE user_id = '{ann.user_id}'"
    )
    found = refused(ann.post("/2fa/verify", {"code": bob.code()}), 500, "secret_unreadable")
    assert found["details"]["reason"] == "authentication"
    assert ann.get("/2fa").json()["state"] == "pending"


def test_what_is_stored_opens_under_the_users_binding(users: Users) -> None:
    ann = users.person()
    ann.set_up()
    query = "SELECT totp_secret_enc FROM identity_2fa WHERE user_id = $1"
    ((blob,),) = rows(users.database, query, ann.user_id)
    vault = Vault(TOTP, users.settings.two_factor)
    assert vault.open(blob, totp_binding(ann.user_id)) == ann.secret  # type: ignore[arg-type]


def test_one_user_changes_nothing_of_another(users: Users) -> None:
    ann, bob = users.person(), users.person()
    codes = ann.enable()
    before, events = ann.row(), ann.events()
    bob.set_up()
    bob.post("/2fa/verify", {"code": ann.code(1)})
    bob.enable()
    bob.post("/2fa/step-up", {"code": ann.code(1)})
    bob.post("/2fa/reset", {"recovery_code": codes[0]})
    bob.post("/2fa/recovery-codes")
    assert (ann.row(), ann.events()) == (before, events)
    assert ann.get("/2fa").json()["recovery_codes_left"] == 10
