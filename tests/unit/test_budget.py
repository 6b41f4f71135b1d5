"""Memory and time that requests may take: refused beyond, given back after."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import recado
from recado.errors import Backpressure
from recado.gateway import patience
from recado.gateway.asgi import Front
from recado.gateway.budget import Budget
from recado.gateway.server import gateway_of, mounted_at
from recado.kafka.abstract import Link
from recado.settings import Settings
from tests.fronts import FakeKafka, Gate, gate


def test_budget_refuses_what_would_be_too_much_and_takes_again_what_was_given_back() -> None:
    budget = Budget(100)
    budget.hold(60)
    with pytest.raises(Backpressure, match="RECADO_MAX_IN_FLIGHT_BYTES=100"):
        budget.hold(41)
    assert budget.held_bytes == 60, "what was refused holds nothing"
    budget.hold(40)
    budget.release(100)
    assert budget.held_bytes == 0


@pytest.mark.parametrize("kind", ["asgi", "flask"])
def test_requests_give_their_bytes_back_whatever_became_of_them(kind: str) -> None:
    with gate(kind, max_in_flight_bytes=100_000) as door:
        assert door.send({"message": "x"}).status == 200
        assert door.send(b"{").status == 400
        assert door.send({"message": "x", "topic": "missing"}).status == 404
        assert door.request("POST", "/send", [b'{"message":', b'"x"}'], content_type="application/json").status == 200
        assert held(door) == 0


@pytest.mark.parametrize("kind", ["asgi", "flask"])
@pytest.mark.parametrize("chunks", [[b"x" * 30_000], [b"x" * 10_000] * 3], ids=["whole", "chunked"])
def test_body_beyond_the_budget_is_429_and_nothing_is_produced(kind: str, chunks: list[bytes]) -> None:
    with gate(kind, max_in_flight_bytes=20_000) as door:
        refused = door.request("POST", "/send/flask-topic", chunks)
        assert refused.status == 429
        assert refused.json["code"] == "backpressure"
        assert refused.headers["retry-after"] == "1"
        assert door.kafka.produced == []
        assert held(door) == 0
        assert door.request("POST", "/send/flask-topic", b"small").status == 200


def held(door: Gate) -> int:
    return door.gateway.budget.held_bytes


def test_body_that_trickles_is_ended_with_408_and_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "GRACE_S", 0.0)
    monkeypatch.setattr(patience, "LOOK_S", 0.01)
    kafka = FakeKafka()
    app = recado.create_app(Settings(spool=False), connect=lambda _: Link(kafka, kafka, lambda: kafka))
    sent: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    async def scenario() -> None:
        front = Front(gateway_of(app), prefixes=mounted_at(app), fallback=never)  # type: ignore[arg-type]  # not called
        scope = {"type": "http", "method": "POST", "path": "/send/flask-topic", "query_string": b"", "headers": []}
        await asyncio.wait_for(front(scope, never, send), 20)

    asyncio.run(scenario())
    assert sent[0]["status"] == 408
    assert b"body-too-slow" in sent[1]["body"]
    assert kafka.produced == []
    assert gateway_of(app).budget.held_bytes == 0
