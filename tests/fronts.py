"""The gateway behind both of its fronts, in this process, with a Kafka that does as a test says."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask

from recado.clock import Deadline
from recado.errors import RecadoError
from recado.gateway.api import create_app
from recado.gateway.asgi import Front
from recado.gateway.gateway import Gateway
from recado.gateway.server import gateway_of, mounted_at
from recado.gateway.wsgi import WsgiBridge
from recado.kafka.abstract import Link
from recado.kafka.delivery import Delivery
from recado.kafka.memory import MemoryKafka
from recado.record import Outgoing
from recado.settings import Settings

Fate = tuple[int, int, int] | RecadoError | None


@dataclass
class FakeKafka:
    """Producer and topic catalog in one. ``fate`` decides each record's report; None gives none (yet)."""

    known: dict[str, int] = field(default_factory=lambda: {"flask-topic": 3, "other": 1, "__consumer_offsets": 1})
    later: dict[str, int] = field(default_factory=dict)
    reachable: bool = True
    produced: list[Outgoing] = field(default_factory=list)
    fate: Callable[[int, Outgoing], Fate] = lambda number, record: (0, number, 1_700_000_000_000)
    refreshes: int = 0
    silent: list[tuple[Delivery, int, int, Outgoing]] = field(default_factory=list)

    def partitions(self, topic: str) -> int | None:
        return self.known.get(topic)

    def refresh(self) -> bool:
        self.refreshes += 1
        self.known |= self.later
        return self.reachable

    @property
    def is_blank(self) -> bool:
        return not (self.known or self.reachable)

    def suspect(self) -> None: ...

    def send(self, delivery: Delivery) -> None:
        # On a thread of its own, as a real producer reports.
        threading.Thread(target=self._report, args=(delivery,)).start()

    def _report(self, delivery: Delivery) -> None:
        for index, record in enumerate(delivery.records):
            number = len(self.produced)
            self.produced.append(record)
            fate = self.fate(number, record)
            if fate is None:
                self.silent.append((delivery, index, number, record))
            else:
                delivery.settle(index, fate)

    def speak(self) -> None:
        """Confirm what was left without a report."""
        while self.silent:  # a report may make somebody send more
            delivery, index, number, _ = self.silent.pop(0)
            delivery.settle(index, (0, number, 1_700_000_000_000))

    def take_over(self) -> None: ...
    def serve(self) -> None: ...
    def hand_back(self) -> None: ...

    def outstanding(self) -> int:
        return len(self.silent)

    def close(self, timeout_s: float = 0.0) -> int:  # of a producer, and of a catalog
        return len(self.silent)


class FakeClients(MemoryKafka):
    """What the delay line is given: it sees the topics that it makes, but none of the records."""

    def __init__(self, kafka: FakeKafka) -> None:
        super().__init__()
        self._kafka = kafka

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> bool:
        self._kafka.known[name] = partitions
        return super().create_topic(name, partitions, config)


@dataclass
class Answered:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class FlaskFront:
    """Requests through Flask alone."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client()

    def request(
        self, method: str, path: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None
    ) -> Answered:
        data = b"".join(body) if isinstance(body, list) else body
        response = self._client.open(path, method=method, data=data, headers=headers or {})
        return Answered(response.status_code, {k.lower(): v for k, v in response.headers}, response.data)


class AsgiFront:
    """Requests through the front on an event loop, Flask behind it."""

    def __init__(self, app: Flask, loop: asyncio.AbstractEventLoop) -> None:
        bridge = WsgiBridge(app, max_body_bytes=gateway_of(app).settings.max_body_bytes)
        self._front = Front(gateway_of(app), prefixes=mounted_at(app), fallback=bridge)
        self._loop = loop

    def request(
        self, method: str, path: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None
    ) -> Answered:
        future: Future[Answered] = asyncio.run_coroutine_threadsafe(
            self._request(method, path, body if isinstance(body, list) else [body], headers or {}), self._loop
        )
        return future.result(30)

    async def _request(self, method: str, path: str, chunks: list[bytes], headers: dict[str, str]) -> Answered:
        target, _, query = path.partition("?")
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        if not any(name in (b"content-length", b"transfer-encoding") for name, _ in raw):
            raw.append((b"content-length", str(sum(map(len, chunks))).encode()))
        scope = {
            "type": "http", "method": method, "path": target, "query_string": query.encode(), "scheme": "http",
            "headers": [(b"host", b"localhost"), *raw], "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        events = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks[:-1]]
        events.append({"type": "http.request", "body": chunks[-1] if chunks else b"", "more_body": False})
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return events.pop(0) if events else {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        await self._front(scope, receive, send)
        answer_headers = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return Answered(sent[0]["status"], answer_headers, b"".join(event.get("body", b"") for event in sent[1:]))


@dataclass
class Gate:
    """One front with its Kafka."""

    kafka: FakeKafka
    front: FlaskFront | AsgiFront
    gateway: Gateway

    def request(self, method: str, path: str, body: bytes | list[bytes] = b"", **headers: str) -> Answered:
        return self.front.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})

    def send(self, payload: Any, **headers: str) -> Answered:
        """POST /send, bytes as they are, anything else as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.request("POST", "/send", body, **{"content_type": "application/json", **headers})

    def lines(self, body: bytes | list[bytes], **headers: str) -> Answered:
        return self.request("POST", "/send", body, **{"content_type": "application/x-ndjson", **headers})


@contextmanager
def gate(kind: str, **settings: Any) -> Iterator[Gate]:
    """A gateway behind the front ``kind``: ``flask`` or ``asgi``."""
    kafka = FakeKafka()
    link = Link(kafka, kafka, lambda: kafka)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        given = {"wait_s": 5.0, "spool": False, "data_dir": Path(folder), **settings}
        app = create_app(Settings(**given), connect=lambda _: link, clients=lambda _: FakeClients(kafka))
        gateway = gateway_of(app)
        ends.callback(lambda: gateway.close(Deadline(1.0)))
        if kind == "flask":
            yield Gate(kafka, FlaskFront(app), gateway)
            return
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield Gate(kafka, AsgiFront(app, loop), gateway)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()
