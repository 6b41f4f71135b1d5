"""The ASGI front: answers the produce routes on the event loop and hands everything else to the Flask app."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog

from recado.errors import RecadoError
from recado.gateway.answer import Answer, answer, problem_answer
from recado.gateway.encoding import incomplete
from recado.gateway.gateway import LEAST_REFRESH_S, Gateway, flush_answer
from recado.gateway.problem import Problem
from recado.gateway.reader import Reader, Submission
from recado.gateway.waiting import Waiting
from recado.telemetry import metrics

__all__ = ["Front"]

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Rest between two looks while flushing, in seconds.
FLUSH_LOOK_S = 0.005


class Front:
    """An ASGI application around a gateway. Belongs to the loop that first calls it; not thread-safe.

    ``prefixes`` are where the Flask app mounts the routes; ``fallback`` is the Flask app as an ASGI application.
    """

    def __init__(self, gateway: Gateway, *, prefixes: list[str], fallback: Application) -> None:
        self._gateway = gateway
        self._fallback = fallback
        self._routes: dict[str, Callable[[Scope, Receive], Awaitable[Answer]]] = {}
        for prefix in prefixes:
            self._routes[f"{prefix}/send"] = self._send
            self._routes[f"{prefix}/flush"] = self._flush
        self._raw = tuple(f"{prefix}/send/" for prefix in prefixes)
        self._ready = {f"{prefix}/health/ready" for prefix in prefixes}
        self._live = {f"{prefix}/health/live" for prefix in prefixes}
        self._waiting: Waiting | None = None
        self._catalog = ThreadPoolExecutor(1, thread_name_prefix="recado-catalog")
        self._refreshing: asyncio.Future[bool] | None = None
        self._request_counters: dict[tuple[str, int], Any] = {}
        self._seconds: dict[str, Any] = {}
        #: Requests being answered now; a shutdown waits for them.
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._dispatch(scope, receive, send)
        except Exception:  # the server would say 500 and nobody would know why
            log.exception("request failed", method=scope["method"], path=scope["path"])
            await _respond(problem_answer(Problem(500, "internal", "Internal error", "The log says more.")), send)
        finally:
            self.in_flight -= 1

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if method == "POST":
            if route := self._routes.get(path):
                given, name = await route(scope, receive), path.rpartition("/")[2]
            elif (
                path.startswith(self._raw) and path[-1] != "/" and path.count("/", len(_matching(path, self._raw))) == 0
            ):
                given, name = await self._send_raw(scope, receive), "send_raw"
            else:
                await self._fallback(scope, receive, send)
                return
            self._count(name, given.status)
            await _respond(given, send)
        elif method == "GET" and path in self._live:
            await _respond(self._gateway.live(), send)
        elif method == "GET" and path in self._ready:
            await _respond(self._gateway.ready(), send)
        else:
            await self._fallback(scope, receive, send)

    async def _send(self, scope: Scope, receive: Receive) -> Answer:
        return await self._take(None, scope, receive)

    async def _send_raw(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["path"]
        return await self._take(path[len(_matching(path, self._raw)) :], scope, receive)

    async def _take(self, topic: str | None, scope: Scope, receive: Receive) -> Answer:
        try:
            reader = Reader(
                topic, scope["query_string"].decode("latin-1"), scope["headers"], settings=self._gateway.settings
            )
            await _feed(reader, receive)
            started = time.monotonic()
            submission = reader.finish()
            intake = self._gateway.intake
            if intake.unknown_topic(submission):
                await self._refresh(submission.wait_s)
            intake.admit(submission)
        except RecadoError as error:
            return problem_answer(Problem.of(error))
        given = await self._deliver(submission)
        self._observe(submission.records[0].topic, time.monotonic() - started)
        return given

    async def _deliver(self, submission: Submission) -> Answer:
        waiting = self._waiting or self._started()
        confirmed = waiting.future(submission.wait_s)
        delivery = self._gateway.intake.open(submission, partial(waiting.complete, confirmed))
        waiting.gather.add(delivery)
        await confirmed
        return answer(delivery, submission.shape)

    def _started(self) -> Waiting:
        self._waiting = Waiting(self._gateway.intake.producer, asyncio.get_running_loop())
        return self._waiting

    async def _refresh(self, wait_s: float) -> None:
        """Ask Kafka for its topics, for the requests that name one not yet known; no longer than a request waits."""
        if self._refreshing is None:
            loop = asyncio.get_running_loop()
            self._refreshing = loop.run_in_executor(self._catalog, self._gateway.intake.topics.refresh)
        refreshing = self._refreshing
        try:
            await asyncio.wait_for(asyncio.shield(refreshing), wait_s or LEAST_REFRESH_S)
        except TimeoutError:
            pass  # what is known now decides
        finally:
            if self._refreshing is refreshing and refreshing.done():
                self._refreshing = None

    async def _flush(self, scope: Scope, receive: Receive) -> Answer:
        try:
            timeout_s = self._gateway.flush_timeout_s(scope["query_string"].decode("latin-1"))
        except Problem as problem:
            return problem_answer(problem)
        deadline = time.monotonic() + timeout_s
        watch = self._gateway.intake.flush()
        while watch.pending() and time.monotonic() < deadline:
            await asyncio.sleep(FLUSH_LOOK_S)
        return flush_answer(watch.delivered(), watch.pending())

    def _count(self, route: str, status: int) -> None:
        counter = self._request_counters.get((route, status))
        if counter is None:
            counter = self._request_counters[route, status] = metrics.GATEWAY_REQUESTS.labels(route, str(status))
        counter.inc()

    def _observe(self, topic: str, seconds: float) -> None:
        histogram = self._seconds.get(topic)
        if histogram is None:
            histogram = self._seconds[topic] = metrics.GATEWAY_SECONDS.labels(topic)
        histogram.observe(seconds)


def _matching(path: str, prefixes: tuple[str, ...]) -> str:
    return next(prefix for prefix in prefixes if path.startswith(prefix))


async def _feed(reader: Reader, receive: Receive) -> None:
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise incomplete("The connection broke off in the middle of the body.")
        if body := event.get("body"):
            reader.feed(body)
        if not event.get("more_body"):
            return


async def _respond(given: Answer, send: Send) -> None:
    headers = [*given.headers, (b"content-length", str(len(given.body)).encode())]
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    await send({"type": "http.response.body", "body": given.body})
