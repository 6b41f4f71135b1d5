"""Redrives as they run in a program: how they stop, who waits for whom, and that what ends them is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from recado.kafka.memory import MemoryMessage
from recado.letters import redrive
from recado.letters.desk import Found
from recado.letters.redrive import Redrive
from recado.outcomes.letter import letter_of
from recado.outcomes.settled import Job, Settled
from recado.record import Outgoing
from recado.settings import Settings


class FakeDesk:
    """Settles letters without a Kafka, and is its own look at it."""

    def __init__(self, settings: Settings, group: str, wanted: object = None) -> None:
        self.settings = settings
        self.group = group
        self.look = self
        self.noted: list[Job] = []

    def settled(self, group: str) -> Settled:
        return Settled(group, {})

    def redrive(self, job: Job, batch: list[Found], **_: Any) -> Job:
        return self.note(job, redriven=job.redriven + len(batch))

    def note(self, job: Job, **changes: Any) -> Job:
        self.noted.append(msgspec.structs.replace(job, **changes))
        return self.noted[-1]

    def leave(self) -> None:
        pass


def a_job(**fields: Any) -> Job:
    return Job(id="one", at=1, by="ana", asked={}, ends={}, **fields)


@pytest.fixture(autouse=True)
def three(monkeypatch) -> None:
    """Three letters are meant."""

    def found(*_: object) -> Iterator[Found]:
        died = [MemoryMessage(Outgoing("dlq.g.orders", b"v", id=""), 0, number, 1_000) for number in range(3)]
        return iter([Found(letter_of(message), message) for message in died])

    monkeypatch.setattr(redrive, "found", found)


@pytest.mark.parametrize(("value", "noted"), [(b"better", []), (None, ["stopped"])])
def test_what_sends_another_value_and_is_stopped_before_cannot_be_resumed(value, noted):
    desk = FakeDesk(Settings(), "g")
    run = Redrive(desk, a_job(), value=value)
    run.stop()
    assert (run.run(), run.job.state, run.is_noted) == ("stopped", "stopped", value is None)
    assert [job.state for job in desk.noted] == noted


def test_what_has_sent_another_value_is_noted():
    desk = FakeDesk(Settings(), "g")
    run = Redrive(desk, a_job(), value=b"better")
    assert (run.run(follow=False), run.is_noted) == ("looked away", True)
    assert [(job.state, job.redriven) for job in desk.noted] == [("running", 3), ("done", 3)]
