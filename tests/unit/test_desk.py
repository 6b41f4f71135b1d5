"""The desk of a group, with letters in memory: what cannot come back, who sits there, and whom it means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from recado.errors import RecadoError, TakenOver, UnknownTopic
from recado.gateway import dead_letters
from recado.gateway.dead_letters import DeadLetters
from recado.gateway.problem import Problem
from recado.kafka.abstract import Message
from recado.kafka.memory import MemoryMessage
from recado.kafka.scan import Range
from recado.letters import desk
from recado.letters.desk import Desk
from recado.letters.filter import Filter
from recado.letters.redrive import Redrive
from recado.outcomes.group_topics import source_of_letters
from recado.outcomes.settled import Settled
from recado.record import Outgoing, TopicPartition
from recado.settings import Settings
from recado.tracking.look import Progress
from tests.command import recado

GROUP = "g"


class Cluster:
    """Dead letters of a group and what is noted of them, and a look at it all; every program is in it."""

    def __init__(self) -> None:
        self.settings = Settings()
        #: The topic ``gone`` is not there.
        self.counts = {"recado.settled.g": 1, "dlq.g.orders": 1, "dlq.g.gone": 1, "orders": 1, "retry.g.orders": 1}
        self.letters: list[Message] = []
        self.written: list[Outgoing] = []
        #: What the next write raises.
        self.fails: RecadoError | None = None
        self.admin = self

    def dies(self, source: str, count: int) -> None:
        """So many letters of this source topic; no header tells anything."""
        self.letters += [MemoryMessage(Outgoing(f"dlq.g.{source}", b"v", "", b"k"), 0, n, 1_000) for n in range(count)]

    def back(self) -> list[Outgoing]:
        return [record for record in self.written if record.topic.startswith("retry.")]

    # What a desk asks for.
    def write(self, records: Sequence[Outgoing]) -> None:
        if self.fails is not None:
            failed, self.fails = self.fails, None
            raise failed
        self.written += records

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, 0)] if topic in self.counts else []

    def letter_partitions(self, group: str, source: str = "") -> list[TopicPartition]:
        names = {topic: source_of_letters(topic, group) for topic in self.counts}
        return [TopicPartition(topic, 0) for topic, name in names.items() if name and source in ("", name)]

    def settled(self, group: str) -> Settled:
        found = Settled(group, dict.fromkeys(self.counts, "id"))
        for record in self.written:
            if record.topic == "recado.settled.g":
                found.take(record.key, record.value)
        return found

    def begins(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {where: sum(message.topic() == where.topic for message in self.letters) for where in partitions}

    def wait_stable(self, partitions: Iterable[TopicPartition]) -> None:
        pass

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def at(self, where: TopicPartition, offsets: Sequence[int]) -> dict[int, Message]:
        return {message.offset(): message for message in self.letters if message.topic() == where.topic}

    def read(
        self, ranges: Mapping[TopicPartition, Range], progress: Progress | None = None, **_: Any
    ) -> Iterator[Message]:
        for read, message in enumerate(self.letters, 1):
            span = ranges.get(TopicPartition(message.topic(), message.partition()), Range(0, 0))
            if span.first <= message.offset() < span.end:
                yield message
            if progress is not None:
                progress(read, len(self.letters))


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    found = Cluster()
    for name in ("Look", "Exclusive", "Peek"):
        monkeypatch.setattr(desk, name, lambda *_: found)
    monkeypatch.setattr(desk, "ClusterClients", lambda *_: SimpleNamespace(create_topic=lambda *_, **__: None))
    return found


def test_a_redrive_is_stopped_also_while_it_searches(cluster, monkeypatch):
    cluster.dies("orders", 9)
    at, looked = Desk(cluster.settings, GROUP), []

    def means(wanted: Filter, message: Message, group: str) -> bool:
        looked.append(message.offset())
        run.stop()
        return False

    monkeypatch.setattr(Filter, "means", means)
    run = Redrive(at, at.begin(Filter(text="nowhere"), "ana"))
    assert (run.run(), run.job.state, looked) == ("stopped", "stopped", [0])


def test_letters_that_cannot_come_back_hold_up_no_others(cluster):
    cluster.dies("gone", 3)
    cluster.dies("orders", 2)
    at = Desk(cluster.settings, GROUP)
    run = Redrive(at, at.begin(Filter(), "ana"))
    assert (run.run(follow=False), run.count, run.left) == ("looked away", 2, {"gone": 3})
    assert Desk(cluster.settings, GROUP).unfinished() is None


def test_a_letter_that_is_named_and_cannot_come_back_is_refused_by_its_name(cluster, monkeypatch):
    cluster.dies("gone", 1)
    wanted = Filter(letters=["dlq.g.gone/0/0"])
    with pytest.raises(UnknownTopic, match="gone/0/0 cannot come back, as its topic gone does not exist"):
        Desk(cluster.settings, GROUP, wanted).begin(wanted, "ana")
    assert cluster.written == []
    assert discarded(cluster, letters=wanted.letters)["discarded"] == 1


def test_a_letter_whose_retry_topic_is_there_comes_back_without_its_topic(cluster):
    cluster.dies("gone", 1)
    cluster.counts["retry.g.gone"] = 1
    wanted = Filter(letters=["dlq.g.gone/0/0"])
    at = Desk(cluster.settings, GROUP, wanted)
    run = Redrive(at, at.begin(wanted, "ana"))
    assert (run.run(follow=False), run.count, run.left) == ("looked away", 1, {})


@pytest.mark.parametrize(("rate", "came_back", "state"), [(0, 0, "done"), (1, 1, "stopped")])
def test_a_redrive_that_an_error_ends_is_noted_so(cluster, rate, came_back, state):
    cluster.dies("orders", 2)
    at = Desk(cluster.settings, GROUP)
    job = at.begin(Filter(), "ana", rate=rate)

    def fail(_: object) -> None:
        if len(cluster.back()) == came_back:
            cluster.fails = RecadoError("the record is too large")

    fail(None)
    with pytest.raises(RecadoError, match="too large"):
        Redrive(at, job, tell=fail).run()
    assert (len(cluster.back()), cluster.settled(GROUP).jobs[job.id].state) == (came_back, state)


def test_one_of_several_redrives_that_were_not_finished_is_named_by_its_id(cluster):
    at = Desk(cluster.settings, GROUP)
    first, second = (at.note(at.begin(Filter(topic=topic), "ana"), state="stopped") for topic in ("orders", "gone"))
    assert at.unfinished(first.id) == first
    assert at.unfinished(second.id) == second
    assert at.unfinished("none") is None


def redrive(*words: str) -> Any:
    return recado("dead-letters", "redrive", *words, "--no-follow", "--group", GROUP)


def test_the_command_goes_on_with_the_last_one_or_with_the_one_that_is_named(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cluster.dies("gone", 3)
    cluster.dies("orders", 2)
    at = Desk(cluster.settings, GROUP)
    first, second = (at.note(at.begin(Filter(topic=topic), "ana"), state="stopped") for topic in ("orders", ""))
    unknown = redrive("--resume", "none")
    assert (unknown.code, "no redrive 'none'" in unknown.err) == (1, True)
    assert redrive("--resume", first.id).code == 0
    assert cluster.settled(GROUP).jobs[second.id].state == "stopped"
    last = redrive("--resume")
    assert (last.code, "3 letters were left: their topic gone does not exist" in last.err) == (3, True)
    assert cluster.settled(GROUP).jobs[second.id].state == "done"
    assert "No redrive was left unfinished" in redrive("--resume").err


def test_who_sits_down_notes_that_the_one_before_has_stopped(cluster):
    job = Desk(cluster.settings, GROUP).begin(Filter(), "ana")
    assert cluster.settled(GROUP).jobs[job.id].state == "running"
    Desk(cluster.settings, GROUP)
    assert cluster.settled(GROUP).jobs[job.id].state == "stopped"


def test_a_redrive_that_another_one_takes_over_has_stopped_and_is_named(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cluster.dies("orders", 2)
    write = cluster.write

    def taken_over(records: Sequence[Outgoing]) -> None:
        if any(record.topic.startswith("retry.") for record in records):
            raise TakenOver("another program settles dead letters of this group now")
        write(records)

    monkeypatch.setattr(cluster, "write", taken_over)
    ran = redrive("--all")
    [id_] = cluster.settled(GROUP).jobs
    assert (ran.code, "another program" in ran.err, f"--resume {id_}" in ran.err) == (3, True, True), ran.err


class Counting(str):
    """A letter's name that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counting.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_letters_that_are_named_are_looked_up_and_not_searched_for(cluster):
    cluster.dies("orders", 200)
    wanted = Filter(letters=[Counting(f"dlq.g.orders/0/{n}") for n in range(200)])
    assert len(list(desk.found(cluster, GROUP, wanted, {}))) == 200
    assert Counting.compared < 1_000


def discarded(cluster: Cluster, **asked: Any) -> Any:
    letters = DeadLetters(cluster.settings)
    return json.loads(letters.discard("group=g", json.dumps({**asked, "reason": "x"}).encode(), "ana").body)


def test_a_discard_over_http_ends_in_time_also_where_few_of_many_are_meant(cluster, monkeypatch):
    cluster.dies("orders", 10)
    assert discarded(cluster, all=True) == {"group": GROUP, "discarded": 10, "complete": True}
    cluster.written.clear()
    monkeypatch.setattr(dead_letters, "SEARCH_S", -1.0)  # over when the first is read
    assert discarded(cluster, all=True) == {"group": GROUP, "discarded": 1, "complete": False}
    with pytest.raises(Problem, match="1 of 10 letters were read") as refused:
        discarded(cluster, key="another")
    assert refused.value.status == 504
