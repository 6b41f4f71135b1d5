"""Where finds the copies of a record wherever they lie, whatever its sender's clock says."""

from __future__ import annotations

import struct
import time

import pytest

import recado.cli.where as cli_where
from recado.cli.status_line import StatusLine
from recado.errors import KafkaUnreachable
from recado.kafka.groups import GroupLag
from recado.kafka.memory import MemoryMessage
from recado.outcomes.dead_letter import cause_of, dead_letter
from recado.outcomes.history import Failure, History, failed
from recado.outcomes.retry import retry_record
from recado.record import HEADER_ID, Outgoing, TopicPartition
from recado.settings import Settings
from recado.tracking import copies
from recado.tracking.look import Look
from recado.tracking.where import GroupState, Whereabouts, at_offset, by_id

GROUP, TOPIC = "g", "orders"
LETTERS, RETRIES = f"dlq.{GROUP}.{TOPIC}", f"retry.{GROUP}.{TOPIC}"
RECORD = Outgoing(TOPIC, b"x", "i", b"k", [(HEADER_ID, b"i")])
NOW_MS = int(time.time() * 1000)


class Cluster:
    """A log for each partition, and what the group has committed."""

    client = None

    def __init__(self, partitions: int, *topics: str) -> None:
        self.logs: dict[TopicPartition, list[MemoryMessage]] = {
            TopicPartition(topic, number): [] for topic in topics for number in range(partitions)
        }
        self.ids: dict[str, str] = {}
        #: Places that hold no record any more, and the first offset where it is not 0.
        self.compacted: set[tuple[str, int, int]] = set()
        self.firsts: dict[TopicPartition, int] = {}

    def write(self, record: Outgoing, partition: int, timestamp_ms: int) -> MemoryMessage:
        log = self.logs[TopicPartition(record.topic, partition)]
        log.append(MemoryMessage(record, partition, len(log), timestamp_ms))
        return log[-1]

    # What an Admin is asked

    def topic_partitions(self) -> dict[str, int]:
        topics = [where.topic for where in self.logs]
        return {topic: topics.count(topic) for topic in topics}

    def topic_ids(self, topics) -> dict[str, str]:
        return self.ids

    def begins(self, partitions) -> dict[TopicPartition, int]:
        return {where: self.firsts.get(where, 0) for where in partitions}

    def ends(self, partitions) -> dict[TopicPartition, int]:
        return {where: len(self.logs[where]) for where in partitions}

    def stable_ends(self, partitions) -> dict[TopicPartition, int]:
        return self.ends(partitions)

    def wait_stable(self, partitions, patience_s) -> dict[TopicPartition, int]:
        return self.ends(partitions)

    def since(self, partitions, timestamp_ms: int) -> dict[TopicPartition, int]:
        return {
            where: next(
                (m.offset() for m in self.logs[where] if m.timestamp()[1] >= timestamp_ms), len(self.logs[where])
            )
            for where in partitions
        }


@pytest.fixture
def look_at(monkeypatch):
    """Return a look at a cluster; the group has done with all that stands in the topic."""

    def look_at(cluster: Cluster) -> Look:
        look = Look(Settings(), admin=cluster)  # type: ignore[arg-type]
        lags = [
            GroupLag(GROUP, *where, len(log), 0, len(log))
            for where, log in cluster.logs.items()
            if where.topic == TOPIC
        ]
        look.groups.lags = lambda groups: {group.name: lags for group in groups}
        monkeypatch.setattr(
            Look, "read",
            lambda self, ranges, progress=None: (
                message
                for where, span in ranges.items()
                for message in cluster.logs[where]
                if span.first <= message.offset() < span.end and (*where, message.offset()) not in cluster.compacted
            ),
        )  # fmt: skip
        return look

    return look_at


def history(source: MemoryMessage) -> History:
    first = History(GROUP, TOPIC, source.partition(), source.offset(), source.timestamp()[1])
    return failed(first, Failure(NOW_MS, "x"), due_ms=NOW_MS)


def letter_of(source: MemoryMessage, partition: int) -> Outgoing:
    return dead_letter(source, history(source), cause_of(ValueError("x"), "given up"), partition=partition)


def state(look: Look, source: MemoryMessage) -> str:
    return at_offset(look, TopicPartition(TOPIC, source.partition()), source.offset(), groups=[GROUP]).state


@pytest.mark.parametrize(
    "sent_ms",
    [NOW_MS + 1_800_000, NOW_MS - 57_000, NOW_MS - 90_000],
    ids=["ahead of now", "ahead of its letter", "right"],
)
def test_a_dead_letter_of_a_sender_whose_clock_is_ahead_is_found(look_at, sent_ms):
    cluster = Cluster(1, TOPIC, LETTERS)
    source = cluster.write(RECORD, 0, sent_ms)
    cluster.write(letter_of(source, 0), 0, NOW_MS - 60_000)
    look = look_at(cluster)
    assert state(look, source) == "dead"
    found = copies.source_by_id(look, TOPIC, "i", sent_ms)
    assert found is not None
    assert (found.where, found.offset) == (TopicPartition(TOPIC, 0), 0)


def test_letters_of_long_before_a_record_are_not_read(look_at):
    cluster = Cluster(1, TOPIC, LETTERS)
    old = cluster.write(RECORD, 0, NOW_MS - 7_200_000)
    cluster.write(letter_of(old, 0), 0, NOW_MS - 7_200_000)
    assert list(copies.dead(look_at(cluster), GROUP, TOPIC, NOW_MS - 60_000)) == []


def settle(look: Look, letters: str, monkeypatch, **places: str) -> None:
    """Let letters be settled: ``p0=...`` is the first letter of partition 0."""
    how = {(letters, int(name[1:]), 0): what for name, what in places.items()}
    settled = look.settled(GROUP)
    monkeypatch.setattr(settled, "of", lambda *place: how.get(place))


@pytest.mark.parametrize("before", [1, 2, 3])
def test_copies_are_found_after_their_topics_were_given_more_partitions(look_at, before):
    cluster = Cluster(4, TOPIC, LETTERS, RETRIES)
    dead, waits, done = (cluster.write(RECORD, number, NOW_MS) for number in (3, 3, 2))
    cluster.write(letter_of(dead, 3 % before), 3 % before, NOW_MS)
    cluster.write(retry_record(waits, history(waits), 3 % before), 3 % before, NOW_MS)
    look = look_at(cluster)
    assert [state(look, source) for source in (dead, waits, done)] == ["dead", "retrying", "done"]


@pytest.mark.parametrize(
    ("settled", "told"),
    [
        ({"p0": "redriven"}, "dead"),
        ({"p1": "redriven"}, "dead"),
        ({"p0": "redriven", "p1": "discarded"}, "discarded"),
        ({"p0": "redriven", "p1": "redriven"}, "done"),
    ],
)
def test_of_letters_in_several_partitions_one_that_is_not_settled_tells(look_at, monkeypatch, settled, told):
    cluster = Cluster(2, TOPIC, LETTERS)
    source = cluster.write(RECORD, 1, NOW_MS)
    for number in (0, 1):
        cluster.write(letter_of(source, number), number, NOW_MS)
    look = look_at(cluster)
    settle(look, LETTERS, monkeypatch, **settled)
    assert state(look, source) == told


def told(look: Look, place: str, *groups: str) -> tuple[str, list[tuple[str, str]]]:
    topic, partition, offset = place.split("/")
    found = at_offset(look, TopicPartition(topic, int(partition)), int(offset), groups=groups or None)
    return found.state, [(group.group, group.state) for group in found.groups]


def test_a_dead_letter_of_a_record_that_was_compacted_is_found(look_at):
    cluster = Cluster(1, TOPIC, LETTERS)
    source = cluster.write(RECORD, 0, NOW_MS)
    done = cluster.write(RECORD, 0, NOW_MS)
    cluster.write(letter_of(source, 0), 0, NOW_MS)
    cluster.compacted = {(TOPIC, 0, source.offset()), (TOPIC, 0, done.offset())}
    look = look_at(cluster)
    assert by_id(look, TOPIC, "i", since_ms=NOW_MS, groups=[GROUP]).state == "dead"
    for place in (f"{TOPIC}/0/0", f"{LETTERS}/0/0"):
        assert told(look, place, GROUP) == ("dead", [(GROUP, "dead")])
    assert told(look, f"{TOPIC}/0/1", GROUP)[0] == "done"
    assert told(look, f"{TOPIC}/0/2", GROUP) == ("unknown", [])


@pytest.mark.parametrize("now", ["gone", "made anew"])
def test_a_dead_letter_of_a_record_whose_topic_is_gone_is_found(look_at, now):
    before = Cluster(1, TOPIC)
    source = before.write(RECORD, 0, NOW_MS)
    cluster = Cluster(1, LETTERS, RETRIES, *([TOPIC] if now == "made anew" else []))
    cluster.ids = {TOPIC: "new"} if now == "made anew" else {}
    earlier = failed(History(GROUP, TOPIC, 0, 0, NOW_MS, topic_id="old"), Failure(NOW_MS, "x"))
    cluster.write(dead_letter(source, earlier, cause_of(ValueError("x"), "given up"), partition=0), 0, NOW_MS)
    look = look_at(cluster)
    found = by_id(look, TOPIC, "i", since_ms=NOW_MS)
    assert (found.state, found.offset, found.groups[0].dead_letter) == ("dead", 0, f"{LETTERS}/0/0")
    assert by_id(look, TOPIC, "i", since_ms=NOW_MS, groups=["other"]).state == "unknown"
    assert by_id(look, TOPIC, "j", since_ms=NOW_MS).state == "unknown"
    if now == "gone":
        assert told(look, f"{TOPIC}/0/0") == ("dead", [(GROUP, "dead")])
        assert told(look, f"{TOPIC}/0/1") == ("unknown", [])


def foreign(family: str, group: str) -> Outgoing:
    """A letter as Spring or Connect makes it."""
    told = {
        "spring": {
            "kafka_dlt-original-topic": TOPIC.encode(),
            "kafka_dlt-original-partition": struct.pack(">i", 0),
            "kafka_dlt-original-offset": struct.pack(">q", 3),
            "kafka_dlt-original-consumer-group": group.encode(),
        },
        "connect": {
            "__connect.errors.topic": TOPIC.encode(),
            "__connect.errors.partition": b"0",
            "__connect.errors.offset": b"3",
            "__connect.errors.connector.name": group.encode(),
        },
    }
    return Outgoing(LETTERS, b"x", "", b"k", list(told[family].items()))


@pytest.mark.parametrize("family", ["spring", "connect"])
@pytest.mark.parametrize("group", ["", GROUP, "a-sink"])
@pytest.mark.parametrize(("settled", "state"), [(None, "dead"), ("discarded", "discarded"), ("redriven", "done")])
def test_a_letter_of_another_program_whose_topic_is_gone_tells_itself(
    look_at, monkeypatch, family, group, settled, state
):
    cluster = Cluster(1, LETTERS)
    cluster.write(foreign(family, group), 0, NOW_MS)
    look = look_at(cluster)
    settle(look, LETTERS, monkeypatch, **({"p0": settled} if settled else {}))
    for place in (f"{LETTERS}/0/0", f"{TOPIC}/0/3"):
        assert told(look, place) == (state, [(GROUP, state)])
        assert told(look, place, GROUP) == (state, [(GROUP, state)])
        assert told(look, place, "other") == ("unknown", [])


def test_the_place_of_a_retry_copy_that_was_swept_is_not_told_as_expired(look_at):
    cluster = Cluster(1, TOPIC, RETRIES)
    source = cluster.write(RECORD, 0, NOW_MS)
    cluster.write(retry_record(source, history(source), 0), 0, NOW_MS)
    cluster.firsts = {TopicPartition(RETRIES, 0): 1}
    assert told(look_at(cluster), f"{RETRIES}/0/0") == ("unknown", [])


def test_follow_goes_on_while_a_group_is_at_it_and_not_for_one_that_never_comes(monkeypatch):
    monkeypatch.setattr(cli_where, "AGAIN_S", 0)

    def looks(*of_others: str) -> int:
        answers = iter([
            Whereabouts(id="i", topic=TOPIC, state="dead",
                        groups=[GroupState(group=GROUP, state="dead"), GroupState(group="other", state=other)])
            for other in of_others
        ])  # fmt: skip
        with StatusLine() as line:
            return len(list(cli_where._answers(lambda progress: next(answers), line, follow=True)))

    assert looks("retrying", "in progress", "done") == 3
    assert looks("delivered") == 1


def test_follow_waits_where_kafka_does_not_answer_for_a_while_and_says_so_once(monkeypatch, capsys):
    monkeypatch.setattr(cli_where, "AGAIN_S", 0)
    found = [Whereabouts(id="i", topic=TOPIC, state=state) for state in ("in progress", "done")]
    looks = iter([found[0], KafkaUnreachable("No broker answers."), KafkaUnreachable("No broker answers."), found[1]])

    def look(progress) -> Whereabouts:
        if isinstance(answer := next(looks), Exception):
            raise answer
        return answer

    with StatusLine() as line:
        assert list(cli_where._answers(look, line, follow=True)) == found
        assert capsys.readouterr().err.count("Going on when Kafka answers again") == 1
        looks = iter([KafkaUnreachable("No broker answers.")])
        with pytest.raises(KafkaUnreachable):
            list(cli_where._answers(look, line, follow=True))


@pytest.mark.parametrize("topic", ["t" * 300, "a b", ""])
def test_a_letter_that_names_a_topic_that_cannot_be_is_told_where_it_stands(look_at, topic):
    cluster = Cluster(1, LETTERS)
    headers = [
        (name, topic.encode() if name.endswith("topic") else value) for name, value in foreign("connect", GROUP).headers
    ]
    cluster.write(Outgoing(LETTERS, b"x", "", b"k", headers), 0, NOW_MS)
    found = at_offset(look_at(cluster), TopicPartition(LETTERS, 0), 0)
    assert (found.topic, found.offset, found.state) == (LETTERS, 0, "delivered")
