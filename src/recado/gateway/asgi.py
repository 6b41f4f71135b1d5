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
from recado.gateway.answer import Answer, answer, fates_of, problem_answer
from recado.gateway.budget import RECORD_BYTES
from recado.gateway.encoding import incomplete
from recado.gateway.gateway import LEAST_REFRESH_S, Gateway, flush_answer
from recado.gateway.idempotency.rest import together, unsent
from recado.gateway.intake import delivery_of
from recado.gateway.patience import Patience, too_slow
from recado.gateway.problem import Problem
from recado.gateway.reader import Reader, Submission
from recado.gateway.spool.keeping import Keeping
from recado.gateway.waiting import Waiting
from recado.gateway.waits import FLUSH_LOOK_S, KEEP_S, LEAVING_LOOKS, LEAVING_S
from recado.kafka.delivery import Delivery
from recado.telemetry import metrics

__all__ = ["Front"]

log = structlog.get_logger(__name__)

#: Bodies of so many bytes are read on a thread, and so are compressed pieces: others must not wait meanwhile.
LARGE = 2_000_000
LARGE_COMPRESSED = 10_000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


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
        self._patience: Patience | None = None
        self._catalog = ThreadPoolExecutor(1, thread_name_prefix="recado-catalog")
        self._refreshing: asyncio.Future[bool] | None = None
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
            await self._respond(
                problem_answer(Problem(500, "internal", "Internal error", "The log says more.")), send, "failed"
            )
        finally:
            self.in_flight -= 1

    def end_waits(self) -> None:
        """Let no request wait for Kafka any more: what is not confirmed is written down, and answered so."""
        if self._waiting is not None:
            self._waiting.end_waits()

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if method == "POST" and path in self._send:
            await self._respond(await self._take(None, scope, receive), send, "send")
        elif method == "POST" and (topic := self._topic(path)):
            await self._respond(await self._take(topic, scope, receive), send, "send_raw")
        elif method == "POST" and path in self._flush:
            await self._respond(await self._flushed(scope), send, "flush")
        elif method == "GET" and path in self._live:
            await self._respond(self._gateway.live(), send, "live")
        elif method == "GET" and path in self._ready:
            await self._respond(self._gateway.ready(), send, "ready")
        else:
            await self._fallback(scope, receive, send)

    async def _respond(self, given: Answer, send: Send, route: str) -> None:
        metrics.GATEWAY_REQUESTS.add((route, str(given.status)))
        headers = [*given.headers, (b"content-length", str(len(given.body)).encode())]
        if self._gateway.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": given.status, "headers": headers})
        await send({"type": "http.response.body", "body": given.body})

    def _topic(self, path: str) -> str | None:
        """The topic of ``/send/{topic}``, None for any other path."""
        if not path.startswith(self._raw):
            return None
        topic = path[len(next(prefix for prefix in self._raw if path.startswith(prefix))) :]
        return None if "/" in topic else topic

    async def _take(self, topic: str | None, scope: Scope, receive: Receive) -> Answer:
        # One coroutine from body to answer, since each layer more is paid for with every request.
        gateway, patience = self._gateway, self._patience or self._begin()
        try:
            query = scope["query_string"].decode("latin-1")
            reader = Reader(topic, query, scope["headers"], settings=gateway.settings)
            gateway.budget.check(reader.expected or 0)
            with gateway.budget.holding() as holding:
                task = patience.begin()
                try:
                    while True:
                        event = await receive()
                        if event["type"] == "http.disconnect":
                            raise incomplete("The connection broke off in the middle of the body.")
                        if body := event.get("body"):
                            if reader.is_compressed and len(body) > LARGE_COMPRESSED:
                                await asyncio.to_thread(reader.feed, body)
                            else:
                                reader.feed(body)
                        if not event.get("more_body"):
                            break
                        patience.came(task, len(body or b""))
                        holding.grow(reader.size)
                except asyncio.CancelledError:
                    if patience.was_slow(task):
                        raise too_slow() from None
                    raise
                finally:
                    patience.end(task)
                started = time.monotonic()
                submission = reader.finish() if reader.size < LARGE else await asyncio.to_thread(reader.finish)
                holding.grow(reader.size + RECORD_BYTES * len(submission.records))
                delivery, kept = await self._give(submission)
                metrics.GATEWAY_SECONDS.observe(submission.records[0].topic, time.monotonic() - started)
                return answer(delivery, submission.shape, kept, base=_base(scope["path"], topic))
        except RecadoError as error:
            return problem_answer(Problem.of(error))

    async def _give(self, submission: Submission) -> tuple[Delivery, Keeping | None]:
        intake = self._gateway.intake
        is_fresh = True
        if intake.must_ask(submission):
            is_fresh = await self._refresh(submission.wait_s)
        intake.admit(submission, is_fresh=is_fresh)
        if submission.keys:
            return await self._once(submission), None
        return await self._send_now(submission)

    async def _once(self, submission: Submission) -> Delivery:
        """Send only what was not sent before; seen through even where nobody waits for the answer any more.

        A request that ended half-way would forget what it had sent, and its repeat would send it again.
        """
        through = asyncio.ensure_future(self._seen_through(submission))
        through.add_done_callback(_retrieved)
        return await asyncio.shield(through)

    async def _seen_through(self, submission: Submission) -> Delivery:
        """Send only what was not sent before, and remember what becomes of it before the answer."""
        waiting, once = self._waiting or self._started(), self._gateway.once
        taken = waiting.for_disk(KEEP_S)
        reservation = once.reserve(submission.keys, partial(waiting.awake, taken))
        await taken
        reservation.check()
        rest, known = unsent(submission, reservation.known), reservation.known
        try:
            fates = fates_of(*await self._send_now(rest)) if rest is not None else []
        except BaseException:
            reservation.release()
            raise
        whole = together(submission, known, fates)
        stored = waiting.for_disk(KEEP_S)
        reservation.store(whole, partial(waiting.awake, stored))
        await stored
        return whole

    async def _send_now(self, submission: Submission) -> tuple[Delivery, Keeping | None]:
        if self._gateway.intake.must_queue(submission):
            return await self._queue(submission)
        return await self._produce(submission)

    async def _produce(self, submission: Submission) -> tuple[Delivery, Keeping | None]:
        """Give the records to Kafka; those that it has not confirmed in time are written down before the answer."""
        waiting, intake = self._waiting or self._started(), self._gateway.intake
        confirmed = waiting.for_kafka(submission.wait_s)
        delivery = intake.open(submission, partial(waiting.complete, confirmed))
        waiting.gather.add(delivery)
        await confirmed
        late = delivery.unconfirmed()
        if not late or intake.spool is None:
            return delivery, None
        kept = waiting.for_disk(KEEP_S)
        keeping = intake.spool.keep(delivery, late, under_way=True, asked=False, on_end=partial(waiting.awake, kept))
        await kept
        intake.spool.withdraw(keeping)
        return delivery, keeping

    async def _queue(self, submission: Submission) -> tuple[Delivery, Keeping | None]:
        """Write the records down; then wait for their turn, unless the sender or an outage says not to."""
        waiting, intake = self._waiting or self._started(), self._gateway.intake
        spool = intake.spool
        assert spool is not None
        looks = LEAVING_LOOKS
        while looks and (is_free := intake.way_is_free(submission)) is not None:
            if is_free:
                return await self._produce(submission)
            await asyncio.sleep(LEAVING_S)
            looks -= 1
        kept, confirmed = waiting.for_disk(KEEP_S), waiting.for_kafka(submission.wait_s)
        delivery = delivery_of(submission, partial(waiting.awake, confirmed))
        keeping = spool.keep(
            delivery,
            range(len(submission.records)),
            under_way=False,
            asked=submission.is_async,
            on_end=partial(waiting.awake, kept),
        )
        await kept
        if spool.withdraw(keeping):
            waiting.leave(confirmed)
            raise keeping.failure()
        if keeping.is_kept and intake.is_worth_waiting(submission):
            await confirmed
        waiting.leave(confirmed)
        spool.forget(keeping)
        return delivery, keeping

    def _begin(self) -> Patience:
        self._patience = Patience(asyncio.get_running_loop())
        return self._patience

    def _started(self) -> Waiting:
        self._waiting = Waiting(self._gateway.intake.producer, self._gateway.intake.topics, asyncio.get_running_loop())
        return self._waiting

    async def _refresh(self, wait_s: float) -> bool:
        """Ask Kafka for its topics, no longer than a request waits; tell whether it answered."""
        if self._refreshing is None:
            loop = asyncio.get_running_loop()
            self._refreshing = loop.run_in_executor(self._catalog, self._gateway.intake.refresh)
        refreshing = self._refreshing
        try:
            return await asyncio.wait_for(asyncio.shield(refreshing), wait_s or LEAST_REFRESH_S)
        except TimeoutError:
            return False
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
        return flush_answer(watch)


def _retrieved(through: asyncio.Future[Delivery]) -> None:
    """An error that nobody waits for was still seen."""
    if not through.cancelled():
        through.exception()


def _base(path: str, topic: str | None) -> str:
    """Where the routes are mounted, from the path of a send."""
    return path[: -len("/send")] if topic is None else path[: -len("/send/") - len(topic)]
