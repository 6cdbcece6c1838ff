"""The second factor: TOTP, recovery codes, and a fresh code before what needs one."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from api.bodies import JsonBody
from api.envelope import errors, json_response
from api.identity.bodies import parsed
from api.identity.callers import address
from api.identity.gate import InSession, SteppedUp, TheTwoFactor, TwoFactorUser
from api.identity.two_factor import Caller
from api.openapi import body_of
from api.schemas import secret_examples
from api.schemas.two_factor import (
    CodeRequest,
    EnabledBody,
    RecoveryCodesBody,
    RecoveryRequest,
    SetupBody,
    StepUpBody,
    TwoFactorBody,
)
from cluster.jobs.job import moment

router = APIRouter(prefix="/2fa", tags=["two-factor"])

BODY: Final = ("payload_too_large", "unsupported_media_type", "validation_error")
NEVER_KEPT: Final = {"Cache-Control": "no-store"}


@router.get(
    "",
    response_model=TwoFactorBody,
    responses=errors("unauthorized", "forbidden"),
    summary="How far the second factor is",
)
async def shown(user: InSession, two_factor: TheTwoFactor) -> Response:
    """Absent, pending or enabled; and until when this session needs no fresh code."""
    status = await two_factor.status(user.user_id, user.session_id)
    return json_response(
        {
            "state": status.state,
            "enabled_at": moment(status.enabled_at),
            "recovery_codes_left": status.recovery_codes_left,
            "stepped_up_until": moment(status.stepped_up_until),
        }
    )


@router.post(
    "/setup",
    response_model=SetupBody,
    responses=errors("unauthorized", "forbidden", "conflict", "too_many_requests"),
    summary="Make a secret for an authenticator",
)
async def setup(user: InSession, two_factor: TheTwoFactor) -> Response:
    """Until a code of it is verified, the secret is not in use, and a further set-up
    replaces it. An enabled one is never replaced: 409 `two_factor_already_enabled`. Ten set-ups of
    a day are free, then each has to wait: 429 `too_many_attempts`.
    """
    uri = await two_factor.setup(user.user_id)
    return json_response({"otpauth_uri": uri}, headers=NEVER_KEPT)


@router.post(
    "/verify",
    response_model=EnabledBody,
    responses=errors("unauthorized", "forbidden", "conflict", "too_many_requests", *BODY),
    openapi_extra=body_of(CodeRequest, examples=secret_examples.CODES),
    summary="Enable the second factor by its first code",
)
async def verify(
    request: Request, user: InSession, two_factor: TheTwoFactor, body: JsonBody
) -> Response:
    """Shows ten recovery codes, once, and counts as a step-up, too.

    Refusals in `details.error`: `invalid_two_factor_code`, `two_factor_setup_required`,
    `two_factor_already_enabled`, `too_many_attempts`.
    """
    code = parsed(CodeRequest, body).code.get_secret_value()
    codes = await two_factor.verify(caller(request, user), code)
    return json_response({"enabled": True, "recovery_codes": codes}, headers=NEVER_KEPT)


@router.post(
    "/step-up",
    response_model=StepUpBody,
    responses=errors("unauthorized", "forbidden", "too_many_requests", *BODY),
    openapi_extra=body_of(CodeRequest, examples=secret_examples.CODES),
    summary="Prove the second factor again",
)
async def step_up(
    request: Request, user: TwoFactorUser, two_factor: TheTwoFactor, body: JsonBody
) -> Response:
    """For some minutes this session may add and delete exchange keys and renew recovery codes.

    Refusals in `details.error`: `two_factor_required`, `invalid_two_factor_code` (wrong, or used
    before), `too_many_attempts`.
    """
    code = parsed(CodeRequest, body).code.get_secret_value()
    until = await two_factor.step_up(caller(request, user), code)
    return json_response({"stepped_up_until": moment(until)})


@router.post(
    "/reset",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden", "too_many_requests", *BODY),
    openapi_extra=body_of(RecoveryRequest, examples=secret_examples.RECOVERY),
    summary="Remove a lost second factor",
)
async def reset(
    request: Request, user: TwoFactorUser, two_factor: TheTwoFactor, body: JsonBody
) -> Response:
    """Only with a recovery code. The other codes are worth nothing after it, and exchange keys are
    out of reach until there is a second factor again.

    Refusals in `details.error`: `two_factor_required`, `invalid_recovery_code`,
    `too_many_attempts`.
    """
    code = parsed(RecoveryRequest, body).recovery_code.get_secret_value()
    await two_factor.reset(caller(request, user), code)
    return Response(status_code=204)


@router.delete(
    "",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden"),
    summary="Switch the second factor off",
)
async def disable(user: SteppedUp, two_factor: TheTwoFactor) -> Response:
    """With a fresh code of the authenticator. Recovery codes are worth nothing after it, and
    exchange keys are out of reach until there is a second factor again.

    Refusals in `details.error`: `two_factor_required`, `step_up_required`.
    """
    await two_factor.disable(user.user_id)
    return Response(status_code=204)


@router.post(
    "/recovery-codes",
    response_model=RecoveryCodesBody,
    responses=errors("unauthorized", "forbidden"),
    summary="Renew the recovery codes",
)
async def renew(user: SteppedUp, two_factor: TheTwoFactor) -> Response:
    """Ten new codes, shown once; those before are worth nothing.

    Refusals in `details.error`: `two_factor_required`, `step_up_required`.
    """
    codes = await two_factor.renew_recovery_codes(user.user_id)
    return json_response({"recovery_codes": codes}, headers=NEVER_KEPT)


def caller(request: Request, user: InSession) -> Caller:
    """Who sends a code."""
    assert user.session_id is not None
    return Caller(user.user_id, user.session_id, address(request))
