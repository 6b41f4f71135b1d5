"""What cannot be seen (no leader, an open transaction, silence) is never taken for what is not there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException

from recado.errors import KafkaUnreachable, NotAllowed
from recado.kafka.admin import Admin
from recado.kafka.peek import Peek
from recado.letters.desk import ends_of
from recado.record import TopicPartition
from recado.settings import Settings
from recado.tracking import copies
from recado.tracking.look import Look

DELAYS = "recado.delay.1m"
TOPICS = ("recado.settled.g", "dlq.g.t", "retry.g.t", DELAYS, "t")
ERRORS = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._NOENT,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)
WITH_LEADER, WITHOUT = TopicPartition("t", 0), TopicPartition("t", 1)


class Client:
    """An AdminClient of topics with two partitions; of those in ``answers`` it answers an error or an offset."""

    def __init__(self) -> None:
        self.answers: dict[TopicPartition, int] = {}
        #: Where the end of what can be read differs from the end.
        self.stable: dict[TopicPartition, int] = {}
        self.asked = 0

    def list_topics(self, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(topics={name: SimpleNamespace(partitions={0: None, 1: None}) for name in TOPICS})

    def list_offsets(self, asked, **options) -> dict:
        self.asked += 1
        stable = self.stable if options.get("isolation_level") == IsolationLevel.READ_COMMITTED else {}
        return {position: self._answer(position, stable) for position in asked}

    def _answer(self, position, stable: dict[TopicPartition, int]) -> Future:
        future: Future = Future()
        where = TopicPartition(position.topic, position.partition)
        answer = stable.get(where, self.answers.get(where, 0))
        if answer in ERRORS:
            future.set_exception(KafkaException(KafkaError(answer)))
        else:
            future.set_result(SimpleNamespace(offset=answer, timestamp=-1))
        return future


@pytest.fixture
def admin(monkeypatch) -> Admin:
    monkeypatch.setattr("recado.kafka.answers.ELECTION_S", 0.0)
    admin = Admin(Settings())
    admin.client = Client()
    return admin


#: What librdkafka tells of a partition without a leader, where none of them has one, and of one whose broker just died.
SILENCE = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError._NOENT, -1001)


@pytest.mark.parametrize("answer", SILENCE)
@pytest.mark.parametrize(
    "ask",
    [
        lambda admin: admin.begins([WITH_LEADER, WITHOUT]),
        lambda admin: admin.ends([WITH_LEADER, WITHOUT]),
        lambda admin: admin.stable_ends([WITH_LEADER, WITHOUT]),
        lambda admin: admin.since([WITH_LEADER, WITHOUT], 5),
        lambda admin: admin.wait_stable([WITH_LEADER, WITHOUT]),
    ],
)
def test_a_partition_without_a_leader_is_no_empty_one(admin, ask: Callable[[Admin], object], answer):
    admin.client.answers[WITHOUT] = answer
    with pytest.raises(KafkaUnreachable, match="t/1: "):
        ask(admin)


@pytest.mark.parametrize("answer", SILENCE)
def test_lists_leave_a_partition_without_a_leader_out(admin, answer):
    admin.client.answers[WITHOUT] = answer
    assert admin.begins([WITH_LEADER, WITHOUT], led_only=True) == {WITH_LEADER: 0}
    assert admin.stable_ends([WITH_LEADER, WITHOUT], led_only=True) == {WITH_LEADER: 0}
    assert admin.since([WITH_LEADER, WITHOUT], 5, led_only=True) == {WITH_LEADER: 0}


def test_a_partition_that_does_not_exist_is_left_out(admin):
    gone = [TopicPartition("t", 2), TopicPartition("gone", 0)]
    for answer in (KafkaError._UNKNOWN_PARTITION, KafkaError._NOENT):  # the second where all that are asked are gone
        admin.client.answers |= dict.fromkeys(gone, answer)
        assert admin.ends([WITH_LEADER, *gone]) == admin.wait_stable([WITH_LEADER, *gone]) == {WITH_LEADER: 0}
        assert admin.ends(gone) == {}


def test_who_may_not_ask_hears_that(admin):
    admin.client.answers[WITHOUT] = KafkaError.TOPIC_AUTHORIZATION_FAILED
    with pytest.raises(NotAllowed):
        admin.ends([WITH_LEADER, WITHOUT])


def test_a_new_leader_is_waited_for(admin, monkeypatch):
    monkeypatch.setattr("recado.kafka.answers.ELECTION_S", 30.0)
    admin.client.answers[WITHOUT] = KafkaError.LEADER_NOT_AVAILABLE
    monkeypatch.setattr("recado.kafka.answers.time.sleep", lambda s: admin.client.answers.update({WITHOUT: 7}))
    assert admin.ends([WITH_LEADER, WITHOUT]) == {WITH_LEADER: 0, WITHOUT: 7}
    assert admin.client.asked == 2


def looking(admin: Admin, monkeypatch) -> Look:
    look = Look(Settings(), admin=admin, patience_s=0)
    monkeypatch.setattr(admin, "topic_ids", lambda topics: {})
    look.groups.lags = lambda groups: {group.name: [] for group in groups}
    return look


@pytest.mark.parametrize(
    ("topic", "ask"),
    [
        ("recado.settled.g", lambda look: look.settled("g")),
        ("dlq.g.t", lambda look: list(copies.dead(look, "g", "t"))),
        ("retry.g.t", lambda look: list(copies.waiting(look, "g", "t"))),
        ("dlq.g.t", lambda look: ends_of(look, "g")),
    ],
)
def test_what_is_settled_dead_or_waits_is_not_told_without_a_leader(admin, monkeypatch, topic, ask):
    look = looking(admin, monkeypatch)
    admin.client.answers[TopicPartition(topic, 0)] = KafkaError.LEADER_NOT_AVAILABLE
    with pytest.raises(KafkaUnreachable, match=f"{topic}/0: Broker: Leader not available"):
        ask(look)


@pytest.mark.parametrize(
    ("topic", "ask"),
    [
        ("dlq.g.t", lambda look: list(copies.dead(look, "g", "t"))),
        ("retry.g.t", lambda look: list(copies.waiting(look, "g", "t"))),
        (DELAYS, lambda look: list(copies.delayed(look, "g", "t"))),
        ("dlq.g.t", lambda look: copies.source_by_id(look, "t", "id", 5)),
    ],
)
def test_what_stands_behind_an_open_transaction_is_waited_for(admin, monkeypatch, topic, ask):
    behind = TopicPartition(topic, 1)
    admin.client.answers[behind], admin.client.stable[behind] = 7, 3
    with pytest.raises(KafkaUnreachable, match=f"a transaction has been open in {topic} for"):
        ask(looking(admin, monkeypatch))
    read = []
    monkeypatch.setattr(Look, "read", lambda look, ranges, progress=None: read.append(dict(ranges)) or [])
    monkeypatch.setattr("recado.kafka.admin.time.sleep", lambda s: admin.client.stable.clear())
    look = looking(admin, monkeypatch)
    look._patience_s = 30
    ask(look)
    assert {where: span.end for ranges in read for where, span in ranges.items()}[behind] == 7


class SilentClient:
    """A consumer to which Kafka tells of its topics, but sends nothing."""

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions={0: None})})

    def assign(self, positions) -> None:
        pass

    def consume(self, most: int, wait_s: float) -> list:
        return []

    def close(self) -> None:
        pass


def test_a_record_that_kafka_does_not_send_is_not_said_to_be_missing(monkeypatch):
    monkeypatch.setattr("recado.kafka.peek.ANSWER_S", 0.0)
    with Peek(Settings()) as peek:
        monkeypatch.setattr(peek, "_client", SilentClient())
        assert peek.at(TopicPartition("dlq.g.t", 1), [5]) == {}  # there is no such partition
        with pytest.raises(KafkaUnreachable, match=r"reading dlq.g.t/0: Kafka has said nothing"):
            peek.at(TopicPartition("dlq.g.t", 0), [5])
