"""Redrives as they run in a program: how they stop, who waits for whom, and that what ends them is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from recado.errors import Backpressure
from recado.kafka.memory import MemoryMessage
from recado.letters import redrive, running
from recado.letters.desk import Found
from recado.letters.filter import Filter
from recado.letters.follow import Fates
from recado.letters.origins import Origins
from recado.letters.redrive import Redrive
from recado.letters.running import Report, Running
from recado.outcomes.letter import letter_of
from recado.outcomes.settled import Job, Settled
from recado.record import Outgoing
from recado.settings import Settings
from tests.programs import eventually


class FakeDesk:
    """Settles letters without a Kafka, and is its own look at it."""

    def __init__(self, settings: Settings, group: str, wanted: object = None) -> None:
        self.settings = settings
        self.group = group
        self.look = self
        self.noted: list[Job] = []
        self.counts = {"orders": 1}

    def begin(self, wanted: object, by: str, **_: Any) -> Job:
        return a_job(by=by)

    def settled(self, group: str) -> Settled:
        return Settled(group, {})

    def redrive(self, job: Job, batch: list[Found], **_: Any) -> Job:
        return self.note(job, redriven=job.redriven + len(batch))

    def note(self, job: Job, **changes: Any) -> Job:
        self.noted.append(msgspec.structs.replace(job, **changes))
        return self.noted[-1]

    def conclude(self, job: Job, succeeded: int, dead_again: int) -> Job:
        return self.note(job, succeeded=succeeded, dead_again=dead_again)

    def leave(self) -> None:
        pass


def a_job(**fields: Any) -> Job:
    return Job(**{"id": "one", "at": 1, "by": "ana", "asked": {}, "ends": {}, **fields})


@pytest.fixture(autouse=True)
def three(monkeypatch) -> None:
    """Three letters are meant."""

    def found(look: object, group: str, *_: object) -> Iterator[Found]:
        died = [MemoryMessage(Outgoing(f"dlq.{group}.orders", b"v", id=""), 0, number, 1_000) for number in range(3)]
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


@pytest.mark.parametrize(
    ("canary", "redriven", "waits"),
    [([1, 10], 1, True), ([1], 1, True), ([4, 1, 10], 4, True), ([1], 2, False), ([], 1, False)],
)
def test_who_resumes_waits_first_for_what_the_last_step_brought_back(monkeypatch, canary, redriven, waits):
    looks: list[int] = []

    def fates(*_: object) -> Fates:
        looks.append(run.count)
        return Fates(redriven - 1, 1, 0)

    monkeypatch.setattr(redrive, "brought_back", lambda *_: Origins([("orders", 0, 7)]))
    monkeypatch.setattr(redrive, "Look", lambda *_: None)
    monkeypatch.setattr(redrive, "fates", fates)
    run = Redrive(FakeDesk(Settings(), "g"), a_job(canary=canary, redriven=redriven))
    assert (run.run(), run.count, looks) == (("stopped", 0, [0]) if waits else ("dead again", 3, [3]))


@pytest.fixture
def slow(monkeypatch) -> threading.Event:
    """While Kafka keeps the group ``slow`` waiting, until this is set."""
    answers = threading.Event()

    class SlowDesk(FakeDesk):
        def __init__(self, settings: Settings, group: str, wanted: object = None) -> None:
            super().__init__(settings, group, wanted)
            assert group != "slow" or answers.wait(20)

    monkeypatch.setattr(running, "Desk", SlowDesk)
    monkeypatch.setattr(running, "TURN_S", 0.1)
    return answers


def test_who_settles_letters_waits_for_others_of_the_group_only_and_not_for_long(slow):
    runs, reports = Running(Settings()), []

    def start(group: str) -> None:
        reports.append(runs.start(group, Filter(), by="ana", follow=False))

    first = threading.Thread(target=start, args=("slow",))
    first.start()
    eventually(lambda: "slow" in runs._settling)
    for _ in range(3):
        with pytest.raises(Backpressure, match="slow"):
            start("slow")
        with pytest.raises(Backpressure, match="slow"):
            runs.stop("slow", "one")
    start("other")
    slow.set()
    first.join(20)
    assert len(reports) == 2, "nothing is done for who has been told that it was not"
    with runs.alone("slow"):
        pass


def test_letters_of_a_few_groups_only_are_settled_at_once(slow):
    runs = Running(Settings())
    with runs.alone("a"), runs.alone("b"), runs.alone("c"), runs.alone("d"), pytest.raises(Backpressure, match="4"):
        runs.start("e", Filter(), by="ana")
    assert isinstance(runs.start("e", Filter(), by="ana", follow=False), Report)


def test_what_ends_a_redrive_is_told_whatever_it_is(slow, monkeypatch):
    def broken(*_: object) -> list[Found]:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(redrive, "batches", broken)
    runs = Running(Settings())
    runs.start("other", Filter(), by="ana", follow=False)
    run = runs._runs["other"]
    run.thread.join(20)
    report = run.report()
    assert (report.here, report.ended, report.error) == (False, None, "unexpected: ValueError: a mistake of ours")


def test_a_first_step_beyond_all_letters_brings_them_all_back():
    run = Redrive(FakeDesk(Settings(), "g"), a_job(canary=[10**20]))
    assert (run.run(follow=False), run.count) == ("looked away", 3)


@pytest.mark.parametrize(("canary", "rate", "sizes"), [([], 2, [2, 1]), ([1], 1, [1, 1, 1]), ([3], 2, [2, 1])])
def test_a_rate_is_kept_in_every_second_also_after_a_wait(monkeypatch, canary, rate, sizes):
    """The clock is ours: what is waited for passes at once, and each look at what became of letters takes a minute."""
    now = [1_000.0]
    sent: list[tuple[float, int]] = []

    class TimedDesk(FakeDesk):
        def redrive(self, job: Job, batch: list[Found], **_: Any) -> Job:
            sent.append((now[0], len(batch)))
            return super().redrive(job, batch)

    def wait(span_s: float) -> bool:
        now[0] += span_s
        return False

    run = Redrive(TimedDesk(Settings(), "g"), a_job(canary=canary, rate=rate))
    monkeypatch.setattr(redrive, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(run._stop, "wait", wait)
    monkeypatch.setattr(run, "_follow", lambda: wait(60))
    run.run(follow=False)
    assert [size for _, size in sent] == sizes
    for (at, size), (later, _) in pairwise(sent):
        assert later - at >= size / rate
