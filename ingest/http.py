"""JSON from an exchange: retries with backoff, the exchange's own pauses, limits shared per host.

A request is tried `retries + 1` times. Again after no answer in time, a broken connection, an
answer that is no JSON, and whatever the exchange calls temporary; at once given up are refusals of
the request itself (400, 401, 403, 404, an unknown symbol). A complaint about too many requests
pauses the host for everybody, for as long as the exchange said.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from compute.errors import InvalidInput
from ingest.errors import ExchangeError, MalformedFrame, RateLimited
from ingest.exchanges.exchange import (
    Conversation,
    Exchange,
    HttpRequest,
    Market,
    date_ms,
    named_pause_s,
)
from ingest.exchanges.registry import exchange_of, market
from ingest.limiter import Clock, LeftAlone, Limiter, Sleep
from ingest.settings import RestSettings

T = TypeVar("T")


class Observer(Protocol):
    """Who is told about requests, for metrics."""

    def failed(self, market_id: int, status: int) -> None:
        """An attempt failed; `status` is 0 where there was no answer."""

    def retried(self, market_id: int) -> None:
        """A request is sent again."""

    def held_back(self, market_id: int, seconds: float) -> None:
        """A request waits for the sake of the exchange's limits."""


class Unobserved:
    """An observer that looks away."""

    def failed(self, market_id: int, status: int) -> None: ...

    def retried(self, market_id: int) -> None: ...

    def held_back(self, market_id: int, seconds: float) -> None: ...


class HttpClient:
    """REST of one market; any number of tasks of one event loop may use it."""

    def __init__(
        self,
        market: Market,
        settings: RestSettings,
        limiter: Limiter,
        *,
        sleep: Sleep = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        observer: Observer | None = None,
    ) -> None:
        self.market = market
        self.exchange: Exchange = exchange_of(market)
        self._settings = settings
        self._limiter = limiter
        self._sleep = sleep
        self._draw = draw
        self._observer = observer or Unobserved()
        self._session = httpx.AsyncClient(
            base_url=settings.base_url,
            timeout=None,  # a limit on the whole answer is set around each request
            headers={"User-Agent": "roehub"},
            limits=httpx.Limits(max_connections=limiter.settings.max_concurrency),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.aclose()

    @property
    def ahead_ms(self) -> int:
        """How far the clock here is ahead of the exchange's, to a second; 0 while unknown."""
        return self._limiter.ahead_ms

    async def ask(self, conversation: Conversation[T]) -> T:
        """What a conversation with the exchange comes to.

        Raises:
            ExchangeError: a request that failed for good, an answer that makes no sense.
        """
        try:
            request = next(conversation)
            while True:
                request = conversation.send(await self.get_json(request))
        except StopIteration as end:
            return end.value

    async def get_json(self, request: HttpRequest) -> Any:
        """The decoded answer to a request.

        Raises:
            ExchangeError: it was refused, or every attempt failed; the last attempt's error.
        """
        if not self._limiter.learned:
            await self._learn()
        return await self._get(request)

    async def _learn(self) -> None:
        """Asks the exchange for its limit, once for all clients of the host."""
        async with self._limiter.learning:
            if self._limiter.learned:
                return
            conversation = self.exchange.weight_limit(self.market)
            try:
                request = next(conversation)
                while True:
                    request = conversation.send(await self._get(request))
            except StopIteration as end:
                self._limiter.learn(end.value)

    async def _get(self, request: HttpRequest) -> Any:
        retries = self._settings.retries
        for attempt in range(retries + 1):
            try:
                return await self._attempt(request)
            except LeftAlone as error:
                raise LeftAlone(
                    self._message(request, error.message),
                    retry_after_s=error.retry_after_s,
                    market_id=self.market.market_id,
                ) from None
            except ExchangeError as error:
                self._observer.failed(self.market.market_id, error.status or 0)
                last = attempt == retries
                delay_s = self._backoff_s(attempt)
                if isinstance(error, RateLimited):
                    # Also after the last attempt: the host is as tired of the other tasks.
                    self._limiter.pause(error.retry_after_s or delay_s)
                if last or not error.retryable:
                    raise
                self._observer.retried(self.market.market_id)
                if not isinstance(error, RateLimited):
                    await self._sleep(delay_s)
        raise AssertionError("a loop of at least one attempt returns or raises")

    def _backoff_s(self, attempt: int) -> float:
        backoff = self._settings.backoff
        delay_s = min(backoff.max_s, backoff.base_s * 2**attempt)
        return delay_s + self._draw() * backoff.jitter_s

    async def _attempt(self, request: HttpRequest) -> Any:
        market_id = self.market.market_id

        def held_back(seconds: float) -> None:
            self._observer.held_back(market_id, seconds)

        async with self._limiter.slot(request.weight, held_back) as ticket:
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    response = await self._session.get(request.path, params=dict(request.params))
            except TimeoutError:
                limit_s = self._settings.timeout_s
                raise self._error(request, f"no answer within {limit_s:g} s") from None
            except (httpx.ConnectError, httpx.ProxyError) as error:
                raise self._error(
                    request,
                    f"{self._settings.base_url} cannot be reached: check the network, HTTPS_PROXY "
                    f"and rest.base_url of market_data.yaml ({type(error).__name__} {error})",
                ) from error
            except httpx.HTTPError as error:
                raise self._error(request, f"{type(error).__name__} {error}".strip()) from error
            headers = response.headers
            self._limiter.observe(ticket, self.exchange.usage(headers), date_ms(headers))
        return self._body(request, response)

    def _body(self, request: HttpRequest, response: httpx.Response) -> Any:
        status, headers = response.status_code, response.headers
        decoded = True
        try:
            body = json.loads(response.content)
        except ValueError:
            body, decoded = response.text, False
        code, message = self.exchange.failure(body)
        said = f"{status}" + (f", {code}: {message}" if code is not None else "")
        pause_s = self.exchange.retry_after_s(status, headers, body)
        if pause_s is None and status >= 500:
            pause_s = named_pause_s(headers)
        if pause_s is not None:
            raise RateLimited(
                self._message(request, said),
                retry_after_s=pause_s or None,
                market_id=self.market.market_id,
                status=status,
                code=code,
            )
        if status != 200 or code is not None:
            raise self._error(
                request, said, status, code, retryable=self.exchange.retryable(status, body)
            )
        if not decoded:
            raise MalformedFrame(
                self._message(request, f"no JSON: {body[:100]!r}"),
                market_id=self.market.market_id,
                status=status,
                retryable=True,
            )
        return body

    def _error(
        self,
        request: HttpRequest,
        said: str,
        status: int | None = None,
        code: int | str | None = None,
        *,
        retryable: bool = True,
    ) -> ExchangeError:
        return ExchangeError(
            self._message(request, said),
            market_id=self.market.market_id,
            status=status,
            code=code,
            retryable=retryable,
        )

    def _message(self, request: HttpRequest, said: str) -> str:
        symbol = request.params.get("symbol")
        about = f" for {symbol}" if symbol else ""
        return f"{self.market.code} {request.path}{about}: {said}"


class HttpClients:
    """The clients of several markets; those on one host of an exchange share its limiter."""

    def __init__(
        self,
        settings: Mapping[int, RestSettings],
        *,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        observer: Observer | None = None,
    ) -> None:
        hosts: dict[tuple[str, str], list[int]] = {}
        for market_id, one in settings.items():
            host = (market(market_id).exchange, urlsplit(one.base_url).netloc)
            hosts.setdefault(host, []).append(market_id)
        self._limiters: dict[int, Limiter] = {}
        for market_ids in hosts.values():
            told = [settings[market_id].limiter for market_id in market_ids]
            strictest = replace(  # the host is one
                told[0],
                safety_factor=min(one.safety_factor for one in told),
                max_concurrency=min(one.max_concurrency for one in told),
            )
            limiter = Limiter(strictest, clock=clock, sleep=sleep)
            self._limiters |= dict.fromkeys(market_ids, limiter)
        self._settings = dict(settings)
        self._sleep = sleep
        self._observer = observer
        self._clients: dict[int, HttpClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.__aexit__()
        self._clients.clear()

    def of(self, market_id: int) -> HttpClient:
        """The client of a market, made when it is first asked for.

        Raises:
            InvalidInput: the market has no settings.
        """
        if market_id not in self._settings:
            raise InvalidInput(
                f"market {market_id} has no REST settings; there are some for "
                f"{', '.join(str(i) for i in sorted(self._settings))}"
            )
        if market_id not in self._clients:  # certificates take a tenth of a second to load
            self._clients[market_id] = HttpClient(
                market(market_id),
                self._settings[market_id],
                self._limiters[market_id],
                sleep=self._sleep,
                observer=self._observer,
            )
        return self._clients[market_id]
