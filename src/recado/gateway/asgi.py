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
from recado.gateway.reader import Reader
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
        self._send = {f"{prefix}/send" for prefix in prefixes}
        self._flush = {f"{prefix}/flush" for prefix in prefixes}
        self._raw = tuple(f"{prefix}/send/" for prefix in prefixes)
        self._ready = {f"{prefix}/health/ready" for prefix in prefixes}
        self._live = {f"{prefix}/health/live" for prefix in prefixes}
        self._waiting: Waiting | None = None
        self._catalog = ThreadPoolExecutor(1, thread_name_prefix="recado-catalog")
        self._refreshing: asyncio.Future[None] | None = None
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
            await _respond(
                problem_answer(Problem(500, "internal", "Internal error", "The log says more.")), send, "failed"
            )
        finally:
            self.in_flight -= 1

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if method == "POST" and path in self._send:
            await _respond(await self._take(None, scope, receive), send, "send")
        elif method == "POST" and (topic := self._topic(path)):
            await _respond(await self._take(topic, scope, receive), send, "send_raw")
        elif method == "POST" and path in self._flush:
            await _respond(await self._flushed(scope), send, "flush")
        elif method == "GET" and path in self._live:
            await _respond(self._gateway.live(), send, "live")
        elif method == "GET" and path in self._ready:
            await _respond(self._gateway.ready(), send, "ready")
        else:
            await self._fallback(scope, receive, send)

    def _topic(self, path: str) -> str | None:
        """The topic of ``/send/{topic}``, None for any other path."""
        if not path.startswith(self._raw):
            return None
        topic = path[len(next(prefix for prefix in self._raw if path.startswith(prefix))) :]
        return None if "/" in topic else topic

    async def _take(self, topic: str | None, scope: Scope, receive: Receive) -> Answer:
        # One coroutine from body to answer, since each layer more is paid for with every request.
        gateway = self._gateway
        try:
            query = scope["query_string"].decode("latin-1")
            reader = Reader(topic, query, scope["headers"], settings=gateway.settings)
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise incomplete("The connection broke off in the middle of the body.")
                if body := event.get("body"):
                    reader.feed(body)
                if not event.get("more_body"):
                    break
            started = time.monotonic()
            submission = reader.finish()
            intake = gateway.intake
            if intake.unknown_topic(submission):
                await self._refresh(submission.wait_s)
            intake.admit(submission)
        except RecadoError as error:
            return problem_answer(Problem.of(error))
        waiting = self._waiting or self._started()
        confirmed = waiting.future(submission.wait_s)
        delivery = intake.open(submission, partial(waiting.complete, confirmed))
        waiting.gather.add(delivery)
        await confirmed
        metrics.GATEWAY_SECONDS.observe(submission.records[0].topic, time.monotonic() - started)
        return answer(delivery, submission.shape)

    def _started(self) -> Waiting:
        self._waiting = Waiting(self._gateway.intake.producer, asyncio.get_running_loop())
        return self._waiting

    async def _refresh(self, wait_s: float) -> None:
        """Ask Kafka for its topics, for the requests that name one not yet known; no longer than a request waits."""
        if self._refreshing is None:
            loop = asyncio.get_running_loop()
            self._refreshing = loop.run_in_executor(self._catalog, self._gateway.intake.refresh)
        refreshing = self._refreshing
        try:
            await asyncio.wait_for(asyncio.shield(refreshing), wait_s or LEAST_REFRESH_S)
        except TimeoutError:
            pass  # what is known now decides
        finally:
            if self._refreshing is refreshing and refreshing.done():
                self._refreshing = None

    async def _flushed(self, scope: Scope) -> Answer:
        try:
            timeout_s = self._gateway.flush_timeout_s(scope["query_string"].decode("latin-1"))
        except Problem as problem:
            return problem_answer(problem)
        deadline = time.monotonic() + timeout_s
        watch = self._gateway.intake.flush()
        while watch.pending() and time.monotonic() < deadline:
            await asyncio.sleep(FLUSH_LOOK_S)
        return flush_answer(watch.delivered(), watch.pending())


async def _respond(given: Answer, send: Send, route: str) -> None:
    metrics.GATEWAY_REQUESTS.add((route, str(given.status)))
    headers = [*given.headers, (b"content-length", str(len(given.body)).encode())]
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    await send({"type": "http.response.body", "body": given.body})
