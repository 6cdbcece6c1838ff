"""Where a back-test is made: its form, what it will take, and the job of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query, Request, Response

from api.bodies import decoded
from api.context import AppContext, Context
from api.errors import Forbidden, invalid
from api.estimates import estimate, job_backtest
from api.market import market_of
from api.pages.blocks import block_view, listing, start_pairs
from api.pages.commands import curl
from api.pages.coverage import WIDTH, instruments, is_bare, sample_panel, stored
from api.pages.faults import in_words, not_stored, out_of_bounds
from api.pages.form import Fields, field_of, fields_of, request_of
from api.pages.rendering import page, part
from api.pages.visitor import Visitor
from api.routes.jobs import TheJobs
from api.running import threaded
from cluster.demo import REQUEST
from compute.account import DIRECTION_MODES, SIZING_MODES
from compute.backtest import Backtest
from compute.errors import GuardExceeded, InvalidInput, NoMarketData, RoehubError
from compute.indicators.definition import SOURCE
from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from compute.market.timeframe import TIMEFRAMES
from compute.quantities import sentence, spaced
from compute.report.facts import MARKETS
from compute.request import strategy_in
from compute.settings import RANKING_METRICS
from ingest.rows import DAY_MS
from ingest.sample import INSTRUMENT as SAMPLE
from ingest.stores.gaps import GapLedger
from live.strategies.template import strategy_template

router = APIRouter()

_MOST_FIELDS: Final = 5_000
_SUGGESTED: Final = 20
_START_DAYS: Final = 90
_PRESET_DAYS: Final = (7, 30, 90, 365)

MarketId = Annotated[int, Query(alias="template.instrument_id.market_id", ge=1, le=65_535)]
Symbol = Annotated[str, Query(alias="template.instrument_id.symbol", max_length=64)]


async def sent_form(request: Request) -> Fields:
    """The form that a page of ours sends.

    Another site's page can make a browser send a form, but not this header. Raises: Forbidden.
    """
    if request.headers.get("hx-request") != "true":
        raise Forbidden("this is for the pages of Roehub; programs use the API, see /docs")
    return _fields((await request.body()).decode(errors="replace"))


def _fields(text: str) -> Fields:
    """The fields that a browser has made a text of. Raises: Forbidden."""
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
    market_id: Annotated[int | None, Query(ge=1, le=65_535)] = None,
    symbol: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The form: of a job's request, of the sample, of an instrument, else of what is stored."""
    market, is_saved = market_of(context.market), False
    if job is not None:
        found = await jobs.job(job, user)
        is_saved = found.mode != "template"
        body = found.effective_json if is_saved else found.request_json
        fields = await threaded(fields_of, body, context.defaults)
    elif await is_bare(context):
        values = {"fields": None, "from_job": None, **sample_panel(context)}
        return page(request, "build.html", user, values)
    else:
        wanted = SAMPLE if sample else _named(market_id, symbol)
        fields = await threaded(
            fields_of, await market.read(lambda: _start(context, wanted)), context.defaults
        )
    values = await threaded(form_values, fields, context)
    return page(request, "build.html", user, {**values, "from_job": job, "is_saved": is_saved})


@router.get("/_partial/build/symbols")
async def symbols(
    user: Visitor, context: Context, market_id: MarketId, symbol: Symbol = ""
) -> Response:
    """Symbols that begin so: those with candles first, then others that are known."""
    market = market_of(context.market)
    start = symbol.strip().upper()

    def found() -> list[tuple[str, bool]]:
        have = [one.symbol for one in instruments(context)
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
    of = ":".join(form.text(f"template.instrument_id.{name}") for name in ("market_id", "symbol"))
    values = {"stored": None, "instrument": None, "width": WIDTH, "of": of}
    try:
        instrument = Instrument(**body["template"].get("instrument_id", {}))
    except (InvalidInput, TypeError):
        return part("_coverage.html", values)
    try:
        sent = body.get("time_range", {})
        wanted = Period.parse(sent.get("start", ""), sent.get("end", ""))
    except InvalidInput:
        wanted = None
    ledger = GapLedger(market.db)
    found = await market.read(lambda: stored(market.candle_store, ledger, instrument, wanted))
    return part("_coverage.html", values | {"stored": found, "instrument": instrument})


@router.post("/_partial/build/block")
async def block(
    user: Visitor,
    context: Context,
    form: SentForm,
    indicator: Annotated[str, Query(max_length=100)],
) -> Response:
    """The block of an indicator: a new one with few values, or one whose output was changed.

    Where a few would make the grid too large, it begins with one of each.
    """

    def view() -> dict[str, Any]:
        fields = form
        for is_one in (False, True):
            pairs = start_pairs(indicator, form, context.indicator_defaults, is_one=is_one)
            fields = Fields([*form.pairs, *pairs])
            if not _is_too_large(fields, context):
                break
        return {
            "fields": fields, "block": block_view(indicator, fields, context.indicator_defaults)
        }  # fmt: skip

    return part("_block.html", await threaded(view))


@router.post("/_partial/build/open")
async def opened(user: Visitor, context: Context, form: SentForm) -> Response:
    """The form of a request that was given as JSON, or of a strategy over what is stored of its
    instrument; what is wrong with it where it was given. Or a form that was kept, as it was.
    """
    try:
        if kept := form.text("form"):
            return part("_form.html", await threaded(form_values, _fields(kept), context))
        body = await threaded(decoded, form.text("json").encode(), context.api)
        if (spec := strategy_in(body)) is not None:
            body = await market_of(context.market).read(lambda: _tried(spec, context))
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
        "found": None, "error": None, "fault_fields": [], "cure": "", "enough": None,
        "guess": None, "fields": form,
        **_copies(body, str(request.base_url).rstrip("/")),
    }  # fmt: skip
    job: Backtest | None = None
    refusal: InvalidInput | None = None
    try:
        job = await threaded(job_backtest, body, context)
        found = await estimate(job, market_of(context.market), context)
        record, refusal = found.record(), found.refusal
        values |= {"found": record, "guess": context.measured.guess(job, record)}
    except InvalidInput as error:
        refusal = error
    if job is not None and isinstance(refusal, GuardExceeded):
        values |= _too_large(job, refusal)
    elif job is not None and isinstance(refusal, NoMarketData):
        values["error"] = await _without_candles(job.instrument, refusal, context)
    elif refusal is not None:
        values |= {"error": in_words(refusal.message), "fault_fields": _faults(refusal, body)}
    return part("_estimate.html", values)


@router.post("/_partial/build/submit")
async def submitted(user: Visitor, form: SentForm, jobs: TheJobs) -> Response:
    """Makes the job of a form and leads to it; a form that is sent twice makes one."""
    body = request_of(form)
    try:
        job, _ = await jobs.create(body, user, _key(form.text("key"), body))
    except RoehubError as error:
        if isinstance(error, InvalidInput):
            told = {"message": in_words(error.message), "faults": _faults(error, body)}
            return part("_error.html", _told(error) | told)
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


def _named(market_id: int | None, symbol: str | None) -> Instrument | None:
    """The instrument that an address names, where it names one. Raises: InvalidInput."""
    return None if market_id is None or symbol is None else Instrument(market_id, symbol)


def _start(context: AppContext, wanted: Instrument | None) -> dict[str, Any]:
    """A request to begin with: that of the demonstration, over what is stored; blocks."""
    body = dict(REQUEST)
    template = {name: value for name, value in REQUEST["template"].items() if name != "execution"}
    if wanted is None:
        wanted = next((one for one in instruments(context) if one != SAMPLE), SAMPLE)
    if wanted != SAMPLE:
        body["time_range"] = _last_days(context, wanted)
        template["instrument_id"] = {"market_id": wanted.market_id, "symbol": wanted.symbol}
    return {**body, "template": template}


def _tried(spec: Mapping[str, Any], context: AppContext) -> dict[str, Any]:
    """The request that tries a strategy over what is stored of its instrument; blocks.

    Raises: InvalidRequest, InvalidInput.
    """
    try:
        template = strategy_template(spec, {})
        instrument = Instrument(**template["instrument_id"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise invalid(f"this strategy cannot be tried: {error!r}", "invalid", "body") from None
    found = {"time_range": _last_days(context, instrument), "template": template}
    return found | {"warmup_bars": spec.get("warmup_bars")}


def _last_days(context: AppContext, instrument: Instrument) -> dict[str, str]:
    """The last days that are stored of an instrument, those of today where none are; blocks."""
    bounds = market_of(context.market).bounds(instrument) or (context.now_ms(),) * 2
    end_ms = bounds[1] // DAY_MS * DAY_MS + DAY_MS
    start_ms = max(bounds[0], end_ms - _START_DAYS * DAY_MS) // DAY_MS * DAY_MS
    return {"start": instant(start_ms), "end": instant(end_ms)}


def _copies(body: dict[str, Any], url: str) -> dict[str, str]:
    """The request as one passes it on."""
    text = json.dumps(body, indent=2, ensure_ascii=False)
    command = f"cat > request.json <<'END'\n{text}\nEND\nroehub submit request.json --follow"
    return {
        "as_json": text,
        "as_curl": curl("post", f"{url}/api/backtests/jobs", body),
        "as_command": command,
    }


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
    if isinstance(error, GuardExceeded) and not faults:
        faults = [*out_of_bounds(body)]
    return [
        {
            "field": field_of(one["path"], body),
            "path": one["path"],
            "message": in_words(one["message"]),
        }
        for one in faults
    ]


async def _without_candles(
    instrument: Instrument, refusal: NoMarketData, context: AppContext
) -> str:
    """What of an instrument is stored, or which others are."""
    market = market_of(context.market)
    if await market.read(lambda: market.bounds(instrument)) is not None:
        return refusal.message
    others = await market.read(lambda: instruments(context)[:_SUGGESTED])
    return not_stored(instrument, others, MARKETS)


def _is_too_large(fields: Fields, context: AppContext) -> bool:
    """Whether the grid of a form, where it has one, is above what is allowed."""
    try:
        total = job_backtest(request_of(fields), context).grid.total
    except InvalidInput:
        return False
    return total > context.limits.max_variants_per_compute


def _too_large(job: Backtest, refusal: GuardExceeded) -> dict[str, Any]:
    """What a guard refuses: how much there is, the fields that make most of it, what to do."""
    fields = {
        "preselect": "preselect",
        "risk.sl": "template.risk_grid.sl",
        "risk.tp": "template.risk_grid.tp",
    }
    for one in job.grid.indicators:
        name = one.indicator_id
        for axis in one.compute:
            place = SOURCE if axis.name == SOURCE else f"params.{axis.name}"
            fields[f"{name}.{axis.name}"] = f"blocks.{name}.{place}"
        fields |= {f"{name}.{axis.name}": f"signals.{name}.{axis.name}" for axis in one.signals}
    return {
        "error": f"The grid is too large: {refusal.need}.",
        "fault_fields": [
            {"field": fields[name], "message": spaced(count)} for name, count in refusal.largest
        ],
        "cure": sentence(refusal.cure),
        "enough": refusal.enough,
    }


def _kept_words(text: str) -> dict[str, str]:
    """What is kept, as one reads it."""
    try:
        path, value = json.loads(text)
        name = ".".join(map(str, path))
    except (ValueError, TypeError):
        name, value = "", text
    return {"text": text, "name": name, "value": json.dumps(value)}
