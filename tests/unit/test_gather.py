"""Nagle's rule for records: a lone one goes at once, those that come meanwhile go together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.gateway.gather import BUSY, ENOUGH, TICK_S, Gather
from recado.kafka.delivery import Delivery
from recado.record import Outgoing


class HandLoop(asyncio.AbstractEventLoop):
    """A clock turned by hand: what is called later is called when the test says so."""

    def __init__(self) -> None:
        self.pending: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Any, *arguments: Any, context: Any = None) -> Any:
        self.pending.append((delay, lambda: callback(*arguments)))

    def turn(self) -> None:
        due, self.pending = self.pending, []
        for _, callback in due:
            callback()


class Producer:
    """Notes what it is told; whoever serves gets the reports of what the test let through."""

    def __init__(self) -> None:
        self.sent: list[Delivery] = []
        self.calls: list[str] = []
        self.on_serve: Callable[[], None] = lambda: None

    def send(self, delivery: Delivery) -> None:
        self.sent.append(delivery)

    def take_over(self) -> None:
        self.calls.append("take over")

    def hand_back(self) -> None:
        self.calls.append("hand back")

    def serve(self) -> None:
        self.on_serve()


class Scene:
    """A Gather with everything around it."""

    def __init__(self) -> None:
        self.loop = HandLoop()
        self.producer = Producer()
        self.confirmed_on_serve = 0
        self.served = 0
        self.gather = Gather(self.producer, self.loop, on_served=self._on_served)  # type: ignore[arg-type]

    def _on_served(self) -> None:
        assert not self.gather.serving
        self.served += 1
        confirmed, self.confirmed_on_serve = self.confirmed_on_serve, 0
        self.gather.confirmed(confirmed)

    def add(self, records: int = 1) -> Delivery:
        delivery = Delivery([Outgoing("t", b"", "")] * records, lambda delivery: None)
        self.gather.add(delivery)
        return delivery

    @property
    def sent(self) -> list[Delivery]:
        return self.producer.sent


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_lone_record_goes_at_once_and_so_does_the_next_after_its_report(scene):
    for _ in range(3):
        delivery = scene.add()
        assert scene.sent[-1] is delivery
        scene.gather.confirmed(1)
    assert len(scene.sent) == 3
    assert scene.loop.pending == []


def test_what_comes_while_one_is_under_way_goes_together_at_its_report(scene):
    first = scene.add()
    others = [scene.add() for _ in range(4)]
    assert scene.sent == [first]
    scene.gather.confirmed(1)
    assert scene.sent == [first, *others]


def test_what_waits_goes_after_a_tick_though_no_report_comes(scene):
    scene.add()
    late = scene.add()
    ((delay, _),) = scene.loop.pending
    assert delay == TICK_S <= 0.002
    scene.loop.turn()
    assert scene.sent[-1] is late
    scene.loop.turn()
    assert scene.loop.pending == [], "nothing waits, nothing is under load: no tick"


def test_a_full_batch_does_not_wait(scene):
    scene.add()
    scene.add(ENOUGH - 1)
    assert len(scene.sent) == 1
    scene.add(1)
    assert len(scene.sent) == 3


def test_a_large_request_goes_at_once_when_nothing_is_under_way(scene):
    scene.add(100_000)
    assert len(scene.sent) == 1


def test_under_load_the_loop_serves_the_reports_and_hands_back_after(scene):
    scene.add(BUSY - 1)
    assert scene.producer.calls == []
    scene.add(1)
    scene.loop.turn()
    assert scene.producer.calls == ["take over"]
    for _ in range(3):
        scene.loop.turn()
    assert scene.served >= 3
    scene.confirmed_on_serve = BUSY
    scene.loop.turn()
    assert scene.producer.calls == ["take over", "hand back"]
    scene.loop.turn()
    assert scene.loop.pending == []
    assert scene.add() is scene.sent[-1]


def test_it_says_so_while_the_loop_serves(scene):
    seen = []
    scene.producer.on_serve = lambda: seen.append(scene.gather.serving)
    scene.add(BUSY)
    scene.loop.turn()
    assert seen == [True]
    assert not scene.gather.serving


def test_there_is_one_tick_at_a_time(scene):
    scene.add(1)
    scene.add(BUSY)
    scene.loop.turn()
    assert len(scene.loop.pending) == 1


STEP = st.one_of(
    st.tuples(st.just("add"), st.sampled_from([1, 1, 1, 3, 8, 300])),
    st.tuples(st.just("confirm"), st.integers(1, 9)),
    st.just(("tick", 0)),
)


@given(st.lists(STEP, max_size=60))
def test_whatever_happens_every_record_goes_within_a_tick_and_in_order(steps):
    scene, added, open_records = Scene(), [], 0
    for step, number in steps:
        if step == "add":
            added.append(scene.add(number))
        elif step == "confirm":
            # Reports come for what was sent, whole deliveries at a time, on the loop or on the producer's thread.
            while number and open_records < len(scene.sent):
                size = len(scene.sent[open_records].records)
                busy = scene.producer.calls[-1:] == ["take over"]
                if busy:
                    scene.confirmed_on_serve += size
                else:
                    scene.gather.confirmed(size)
                open_records += 1
                number -= 1
        else:
            waiting = len(added)
            scene.loop.turn()
            assert len(scene.sent) >= waiting, "a tick sends all that waited"
        assert scene.sent == added[: len(scene.sent)]
        assert scene.producer.calls == ["take over", "hand back"] * (len(scene.producer.calls) // 2) + ["take over"] * (
            len(scene.producer.calls) % 2
        )
        if len(scene.sent) < len(added) or scene.producer.calls[-1:] == ["take over"]:
            assert scene.loop.pending, "something waits and nobody will come"
    for _ in range(3):
        scene.confirmed_on_serve += sum(len(delivery.records) for delivery in scene.sent[open_records:])
        open_records = len(scene.sent)
        scene.loop.turn()
    assert scene.sent == added
