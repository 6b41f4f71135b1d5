"""What a group has committed of partitions that were just assigned: nobody goes on without knowing it."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Position

from recado.errors import NotAllowed, RecadoError
from recado.kafka import group_offsets
from recado.kafka.abstract import Committed
from recado.kafka.group_offsets import GroupOffsets
from recado.record import TopicPartition

WHERE = TopicPartition("orders", 0)


class Ids:
    """A cluster whose topics have one id."""

    def learn(self, topics, keep):
        return {"orders": "ID"}

    def of(self, topic):
        return "ID"


class Client:
    """A consumer's client whose coordinator answers only after some tries."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def committed(self, positions, timeout):
        if self.errors:
            raise KafkaException(KafkaError(self.errors.pop(0)))
        return [Position("orders", 0, 7, metadata="topic=ID;map=0,r,AAE=")]


def test_what_is_done_beyond_the_offset_is_read_however_long_a_dead_members_transaction_lasts(monkeypatch):
    monkeypatch.setattr(group_offsets, "AGAIN_S", 0.001)
    client = Client(KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT, KafkaError.NOT_COORDINATOR)
    found, anew = GroupOffsets(Ids()).read_assigned(client, [WHERE], held=set())
    assert (found, anew) == ({WHERE: Committed(7, "map=0,r,AAE=")}, set())


class SlowIds(Ids):
    """Nobody tells ids at first: the broker that was asked hangs."""

    def __init__(self, silences: int) -> None:
        self.silences = silences

    def learn(self, topics, keep):
        self.silences -= 1
        return {} if self.silences >= 0 else super().learn(topics, keep)


def test_what_is_done_beyond_the_offset_is_kept_though_the_topics_id_is_told_late(monkeypatch):
    monkeypatch.setattr(group_offsets, "AGAIN_S", 0.001)
    found, _ = GroupOffsets(SlowIds(3)).read_assigned(Client(), [WHERE], held=set())
    assert found == {WHERE: Committed(7, "map=0,r,AAE=")}


def test_what_is_done_beyond_the_offset_is_handled_again_where_nobody_tells_the_topics_id(monkeypatch):
    monkeypatch.setattr(group_offsets, "AGAIN_S", 0.001)
    monkeypatch.setattr(group_offsets, "ASSIGNED_S", 0.05)
    found, anew = GroupOffsets(SlowIds(10_000)).read_assigned(Client(), [WHERE], held=set())
    assert (found, anew) == ({WHERE: Committed(7, "")}, set())


def test_what_cannot_be_read_is_an_error_and_not_nothing(monkeypatch):
    monkeypatch.setattr(group_offsets, "AGAIN_S", 0.001)
    monkeypatch.setattr(group_offsets, "ASSIGNED_S", 0.01)
    with pytest.raises(RecadoError):
        GroupOffsets(Ids()).read_assigned(Client(*[KafkaError._TIMED_OUT] * 10_000), [WHERE], held=set())
    denied = Client(KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._TIMED_OUT)
    with pytest.raises(NotAllowed):
        GroupOffsets(Ids()).read_assigned(denied, [WHERE], held=set())
    assert len(denied.errors) == 1
