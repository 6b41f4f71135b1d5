"""A partition of which Kafka tells nothing is never taken for an empty one, nor one that is away for one that is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from recado.errors import KafkaUnreachable, NotAllowed
from recado.kafka.admin import Admin
from recado.letters.desk import ends_of
from recado.record import TopicPartition
from recado.settings import Settings
from recado.tracking import copies
from recado.tracking.look import Look

TOPICS = ("recado.settled.g", "dlq.g.t", "retry.g.t", "t")
ERRORS = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION, KafkaError.TOPIC_AUTHORIZATION_FAILED)
WITH_LEADER, WITHOUT = TopicPartition("t", 0), TopicPartition("t", 1)


class Client:
    """An AdminClient of topics with two partitions; of those in ``answers`` it answers an error or an offset."""

    def __init__(self) -> None:
        self.answers: dict[TopicPartition, int] = {}
        self.asked = 0

    def list_topics(self, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(topics={name: SimpleNamespace(partitions={0: None, 1: None}) for name in TOPICS})

    def list_offsets(self, asked, **options) -> dict:
        self.asked += 1
        return {position: self._answer(position) for position in asked}

    def _answer(self, position) -> Future:
        future: Future = Future()
        answer = self.answers.get(TopicPartition(position.topic, position.partition), 0)
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


#: What librdkafka tells of a partition without a leader, and when it gave up waiting for a broker that is just dead.
SILENCE = (KafkaError.LEADER_NOT_AVAILABLE, -1001)


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
    with pytest.raises(KafkaUnreachable, match=r"t/1: .*[Ll]eader"):
        ask(admin)


@pytest.mark.parametrize("answer", SILENCE)
def test_lists_leave_a_partition_without_a_leader_out(admin, answer):
    admin.client.answers[WITHOUT] = answer
    assert admin.begins([WITH_LEADER, WITHOUT], led_only=True) == {WITH_LEADER: 0}
    assert admin.stable_ends([WITH_LEADER, WITHOUT], led_only=True) == {WITH_LEADER: 0}
    assert admin.since([WITH_LEADER, WITHOUT], 5, led_only=True) == {WITH_LEADER: 0}


def test_a_partition_that_does_not_exist_is_left_out(admin):
    admin.client.answers[WITHOUT] = KafkaError._UNKNOWN_PARTITION
    assert admin.ends([WITH_LEADER, WITHOUT]) == {WITH_LEADER: 0}
    admin.wait_stable([WITH_LEADER, WITHOUT])


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


@pytest.mark.parametrize(
    ("topic", "ask"),
    [
        ("recado.settled.g", lambda look: look.settled("g")),
        ("dlq.g.t", lambda look: list(copies.dead(look, "g", "t", None))),
        ("retry.g.t", lambda look: list(copies.waiting(look, "g", "t", None))),
        ("dlq.g.t", lambda look: ends_of(look, "g")),
    ],
)
def test_what_is_settled_dead_or_waits_is_not_told_without_a_leader(admin, monkeypatch, topic, ask):
    look = Look(Settings(), admin=admin)
    monkeypatch.setattr(admin, "topic_ids", lambda topics: {})
    look.groups.lags = lambda groups: {group.name: [] for group in groups}
    admin.client.answers[TopicPartition(topic, 0)] = KafkaError.LEADER_NOT_AVAILABLE
    with pytest.raises(KafkaUnreachable, match=f"{topic}/0: Broker: Leader not available"):
        ask(look)
