"""Where a back-test is made: its form, what it will take, and the job of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query, Request, Response

from api.bodies import decoded
from api.context import AppContext, Context
from api.errors import Forbidden
from api.estimates import estimate, job_backtest
from api.market import market_of
from api.pages.blocks import block_view, listing, start_pairs
from api.pages.coverage import WIDTH, stored
from api.pages.form import Fields, field_of, fields_of, request_of
from api.pages.rendering import page, part
from api.pages.visitor import Visitor
from api.routes.jobs import TheJobs
from api.running import threaded
from cluster.demo import REQUEST
from compute.account import DIRECTION_MODES, SIZING_MODES
from compute.backtest import Backtest
from compute.errors import GuardExceeded, InvalidGrid, InvalidInput, RoehubError
from compute.market.instrument import MARKETS, Instrument
from compute.market.period import Period, instant
from compute.market.timeframe import TIMEFRAMES
from compute.settings import RANKING_METRICS
from ingest.rows import DAY_MS
from ingest.sample import INSTRUMENT as SAMPLE
from ingest.sample import store_sample
from ingest.stores.gaps import GapLedger

router = APIRouter()

_MOST_FIELDS: Final = 5_000
_SUGGESTED: Final = 20
_START_DAYS: Final = 90
_KNOWN_S: Final = 30.0
_INSTRUMENTS: Final = "instruments_with_candles"
_PRESET_DAYS: Final = (7, 30, 90, 365)

MarketId = Annotated[int, Query(alias="template.instrument_id.market_id", ge=1, le=65_535)]
Symbol = Annotated[str, Query(alias="template.instrument_id.symbol", max_length=64)]


async def sent_form(request: Request) -> Fields:
    """The form that a page of ours sends.

    Another site's page can make a browser send a form, but not this header. Raises: Forbidden.
    """
    if request.headers.get("hx-request") != "true":
        raise Forbidden("this is for the pages of Roehub; programs use the API, see /docs")
    text = (await request.body()).decode(errors="replace")
    try:
        return Fields(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Forbidden(f"a form has at most {_MOST_FIELDS} fields") from None


SentForm = Annotated[Fields, Depends(sent_form)]


@router.get("/backtests")
async def build(
    request: Request,
    user: Visitor,
    context: Context,
    jobs: TheJobs,
    job: Annotated[UUID | None, Query(alias="from")] = None,
    sample: bool = False,
) -> Response:
    """The form: of a job's request, of the sample, else of what is stored."""
    market, is_saved = market_of(context.market), False
    if job is not None:
        found = await jobs.job(job, user)
        is_saved = found.mode != "template"
        body = found.effective_json if is_saved else found.request_json
        fields = await threaded(fields_of, body, context.defaults)
    elif await market.read(market.candle_store.is_empty):
        return page(request, "build.html", user, {"fields": None, "from_job": None})
    else:
        fields = await threaded(
            fields_of, await market.read(lambda: _start(context, sample)), context.defaults
        )
    values = await threaded(form_values, fields, context)
    return page(request, "build.html", user, {**values, "from_job": job, "is_saved": is_saved})


@router.post("/_partial/sample")
async def sample(user: Visitor, context: Context, form: SentForm) -> Response:
    """Stores the sample and leads to its form."""
    market = market_of(context.market)
    now_ms = context.now_ms()
    await market.read(lambda: store_sample(market.candle_store, now_ms))
    context.running.pop(_INSTRUMENTS, None)
    return Response(status_code=204, headers={"HX-Redirect": "/backtests?sample=true"})


@router.get("/_partial/build/symbols")
async def symbols(
    user: Visitor, context: Context, market_id: MarketId, symbol: Symbol = ""
) -> Response:
    """Symbols that begin so: those with candles first, then others that are known."""
    market = market_of(context.market)
    start = symbol.strip().upper()

    def found() -> list[tuple[str, bool]]:
        have = [one.symbol for one in _instruments(context)
                if one.market_id == market_id and one.symbol.startswith(start)]  # fmt: skip
        known = (
            market.references.search(market_id, start, _SUGGESTED) if start.isprintable() else []
        )
        others = [one.symbol for one in known if one.symbol not in have]
        return [(one, True) for one in have[:_SUGGESTED]] + [(one, False) for one in others]

    return part("_symbols.html", {"symbols": (await market.read(found))[:_SUGGESTED]})


@router.post("/_partial/build/coverage")
async def coverage(user: Visitor, context: Context, form: SentForm) -> Response:
    """What is stored of the form's instrument, and how much of its range."""
    market = market_of(context.market)
    body = request_of(form)
    try:
        instrument = Instrument(**body["template"].get("instrument_id", {}))
    except (InvalidInput, TypeError):
        return part("_coverage.html", {"stored": None, "instrument": None, "width": WIDTH})
    try:
        sent = body.get("time_range", {})
        wanted = Period.parse(sent.get("start", ""), sent.get("end", ""))
    except InvalidInput:
        wanted = None
    ledger = GapLedger(market.db)
    found = await market.read(lambda: stored(market.candle_store, ledger, instrument, wanted))
    return part("_coverage.html", {"stored": found, "instrument": instrument, "width": WIDTH})


@router.post("/_partial/build/block")
async def block(
    user: Visitor,
    context: Context,
    form: SentForm,
    indicator: Annotated[str, Query(max_length=100)],
) -> Response:
    """The block of an indicator: a new one with few values, or one whose output was changed."""

    def view() -> dict[str, Any]:
        pairs = start_pairs(indicator, form, context.indicator_defaults)
        fields = Fields([*form.pairs, *pairs])
        return {
            "fields": fields, "block": block_view(indicator, fields, context.indicator_defaults)
        }  # fmt: skip

    return part("_block.html", await threaded(view))


@router.post("/_partial/build/open")
async def opened(user: Visitor, context: Context, form: SentForm) -> Response:
    """The form of a request that was given as JSON; what is wrong with it where it was given."""
    try:
        body = await threaded(decoded, form.text("json").encode(), context.api)
        fields = await threaded(fields_of, body, context.defaults)
    except InvalidInput as error:
        answer = part("_error.html", _told(error))
        answer.headers.update({"HX-Retarget": "#opened", "HX-Reswap": "innerHTML"})
        return answer
    return part("_form.html", await threaded(form_values, fields, context))


@router.post("/_partial/build/estimate")
async def estimated(request: Request, user: Visitor, context: Context, form: SentForm) -> Response:
    """What the job of a form will take, or why there would be none; and its request to copy."""
    body = request_of(form)
    values: dict[str, Any] = {
        "found": None, "error": None, "fault_fields": [], "fields": form,
        **_copies(body, str(request.base_url).rstrip("/")),
    }  # fmt: skip
    job: Backtest | None = None
    refusal: InvalidInput | None = None
    try:
        job = await threaded(job_backtest, body, context)
        found = await estimate(job, market_of(context.market), context)
        values["found"], refusal = found.record(), found.refusal
    except InvalidInput as error:
        refusal = error
    if job is not None and isinstance(refusal, GuardExceeded):
        fault = {"field": _widest(job, refusal.details), "message": refusal.message}
        values |= {"error": "The grid is too large.", "fault_fields": [fault]}
    elif refusal is not None:
        values |= {"error": refusal.message, "fault_fields": _faults(refusal, body)}
    return part("_estimate.html", values)


@router.post("/_partial/build/submit")
async def submitted(user: Visitor, form: SentForm, jobs: TheJobs) -> Response:
    """Makes the job of a form and leads to it; a form that is sent twice makes one."""
    body = request_of(form)
    try:
        job, _ = await jobs.create(body, user, _key(form.text("key"), body))
    except RoehubError as error:
        if isinstance(error, InvalidInput):
            return part("_error.html", {**_told(error), "faults": _faults(error, body)})
        raise
    return Response(status_code=204, headers={"HX-Redirect": f"/backtests/jobs/{job.job_id}"})


def form_values(fields: Fields, context: AppContext) -> dict[str, Any]:
    """What the template of the form needs."""
    known = context.indicator_defaults
    return {
        "fields": fields,
        "key": str(uuid4()),
        "blocks": [block_view(name, fields, known) for name in fields.indicators],
        "groups": listing(),
        "kept": [_kept_words(text) for text in fields.texts("kept")],
        "defaults": context.defaults,
        "fees": dict(context.defaults.fee_pct_default_by_market_id),
        "markets": MARKETS,
        "timeframes": [*TIMEFRAMES],
        "directions": DIRECTION_MODES,
        "sizings": SIZING_MODES,
        "metrics": RANKING_METRICS,
        "presets": _PRESET_DAYS,
        "day_ms": DAY_MS,
    }


def _instruments(context: AppContext) -> list[Instrument]:
    """The instruments with candles, looked at once in a while: a large store is long about it."""
    now = time.monotonic()
    until, found = context.running.get(_INSTRUMENTS, (now, []))
    if now >= until:
        found = market_of(context.market).candle_store.instruments()
        context.running[_INSTRUMENTS] = (time.monotonic() + _KNOWN_S, found)
    return found


def _start(context: AppContext, sample: bool) -> dict[str, Any]:
    """A request to begin with: that of the demonstration, over what is stored; blocks."""
    body = dict(REQUEST)
    template = {name: value for name, value in REQUEST["template"].items() if name != "execution"}
    market, have = market_of(context.market), _instruments(context)
    if not sample and have != [SAMPLE]:
        instrument = next((one for one in have if one != SAMPLE), SAMPLE)
        bounds = market.bounds(instrument)
        assert bounds is not None  # it has candles
        end_ms = bounds[1] // DAY_MS * DAY_MS + DAY_MS
        start_ms = max(bounds[0], end_ms - _START_DAYS * DAY_MS) // DAY_MS * DAY_MS
        body["time_range"] = {"start": instant(start_ms), "end": instant(end_ms)}
        named = {"market_id": instrument.market_id, "symbol": instrument.symbol}
        template["instrument_id"] = named
    return {**body, "template": template}


def _copies(body: dict[str, Any], url: str) -> dict[str, str]:
    """The request as one passes it on."""
    text = json.dumps(body, indent=2, ensure_ascii=False)
    quoted = text.replace("'", "'\\''")
    curl = (
        f"curl -X POST {url}/api/backtests/jobs -H 'content-type: application/json' \\\n"
        f"  -H \"authorization: Bearer $ROEHUB_TOKEN\" -d '{quoted}'"
    )
    command = f"cat > request.json <<'END'\n{text}\nEND\nroehub submit request.json --follow"
    return {"as_json": text, "as_curl": curl, "as_command": command}


def _key(form: str, body: dict[str, Any]) -> str:
    """The idempotency key of a form as it is now: what was changed since is another job."""
    text = json.dumps([form, body], sort_keys=True)
    return f"page-{sha256(text.encode()).hexdigest()}"


def _told(error: InvalidInput) -> dict[str, Any]:
    faults = error.details.get("errors", [])
    return {"message": error.message, "faults": faults, "status": 422}


def _faults(error: InvalidInput, body: dict[str, Any]) -> list[dict[str, str]]:
    """What is wrong, with the field that each belongs to."""
    faults: Sequence[dict[str, str]] = error.details.get("errors", [])
    if not faults and isinstance(error, InvalidGrid) and error.details.get("axis"):
        name = f"template.risk_grid.{error.details['axis']}"
        return [{"field": name, "message": error.message}]
    return [
        {"field": field_of(one["path"], body), "path": one["path"], "message": one["message"]}
        for one in faults
    ]


def _widest(job: Backtest, details: dict[str, Any]) -> str:
    """The field that is the first to narrow: the longest axis, or how many are tried with stops."""
    if details.get("stage") == "stage_b":
        return "preselect"
    found = [
        (len(axis), f"{kind}.{one.indicator_id}.{middle}{axis.name}")
        for one in job.grid.indicators
        for kind, axes in (("blocks", one.compute), ("signals", one.signals))
        for axis in axes
        for middle in ("" if kind == "signals" or axis.name == "source" else "params.",)
    ]
    return max(found, default=(0, ""))[1]


def _kept_words(text: str) -> dict[str, str]:
    """What is kept, as one reads it."""
    try:
        path, value = json.loads(text)
        name = ".".join(map(str, path))
    except (ValueError, TypeError):
        name, value = "", text
    return {"text": text, "name": name, "value": json.dumps(value)}
