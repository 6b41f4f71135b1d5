"""Looking at consumer groups on a real cluster: who is in them and how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException

from recado.errors import RecadoError
from recado.kafka.abstract import Committed
from recado.kafka.admin import Admin
from recado.kafka.answers import TIMEOUT_S, answered
from recado.kafka.failures import client_failure
from recado.record import TopicPartition

__all__ = ["Group", "GroupLag", "Groups", "Member"]

#: Rest between two questions while a group's coordinator is being chosen, in seconds.
AGAIN_S = 0.1

_NOT_YET = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}

T = TypeVar("T")


class Member(NamedTuple):
    """One member: which program, on which host, and what it holds now."""

    id: str
    client: str
    host: str
    partitions: tuple[TopicPartition, ...]


class Group(NamedTuple):
    """One group: its state (``stable``, ``empty``, …) and its members."""

    name: str
    state: str
    members: tuple[Member, ...]


class GroupLag(NamedTuple):
    """How far one group is in one partition.

    ``committed`` is None where it never committed; ``begin`` and ``end`` are None where the partition is gone or
    has no leader now.
    """

    group: str
    topic: str
    partition: int
    committed: int | None
    begin: int | None
    end: int | None
    metadata: str = ""

    @property
    def lag(self) -> int | None:
        """Records still to do. Where nothing is committed all are: a new group starts at the earliest."""
        done = self.begin if self.committed is None else self.committed
        return None if done is None or self.end is None else max(0, self.end - done)


class Groups:
    """Asks a real cluster about its groups. Calls block for some seconds at most, then raise KafkaUnreachable."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._client = admin.client

    def names(self) -> list[str]:
        """Every consumer group that is there, sorted; never only some of them."""
        self._admin.cluster()  # librdkafka lists no group where it reaches no broker, and calls that an answer
        return _patiently(self._listed)

    def describe(self, names: Sequence[str]) -> dict[str, Group]:
        """State and members of each group, by name; one that is not there has the state ``dead``."""
        if not names:
            return {}
        self._admin.cluster()  # tells at once, and why, when nobody answers
        found = _patiently(lambda: self._descriptions(names))
        return {
            name: Group(name, group.state.name.lower().replace("_", "-"), tuple(map(_member, group.members)))
            for name, group in sorted(found.items())
        }

    def lags(self, groups: Sequence[Group]) -> dict[str, list[GroupLag]]:
        """How far each group is, in every partition that it committed or holds, sorted."""
        commits = _patiently(lambda: self._commits([group.name for group in groups]))
        held = {group.name: {p for member in group.members for p in member.partitions} for group in groups}
        asked = {name: sorted(commits[name].keys() | held[name]) for name in commits}
        every = sorted({partition for partitions in asked.values() for partition in partitions})
        begins, ends = self._admin.begins(every, led_only=True), self._admin.ends(every, led_only=True)

        def lag(name: str, where: TopicPartition) -> GroupLag:
            committed = commits[name].get(where)
            offset, metadata = (None, "") if committed is None else (committed.offset, committed.metadata)
            return GroupLag(name, *where, offset, begins.get(where), ends.get(where), metadata)

        return {name: [lag(name, where) for where in partitions] for name, partitions in asked.items()}

    def _listed(self) -> list[str]:
        doing = "asking Kafka for its groups"
        listed = answered(self._client.list_consumer_groups(request_timeout=TIMEOUT_S), doing)
        for error in listed.errors:
            raise client_failure(error, doing) from KafkaException(error)
        return sorted(group.group_id for group in listed.valid)

    def _descriptions(self, names: Sequence[str]) -> dict[str, Any]:
        futures = self._client.describe_consumer_groups(list(names), request_timeout=TIMEOUT_S)
        return {name: answered(future, f"describing group {name}") for name, future in futures.items()}

    def _commits(self, names: Sequence[str]) -> dict[str, dict[TopicPartition, Committed]]:
        """What each group committed, by partition."""
        futures = {
            name: self._client.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(name)], request_timeout=TIMEOUT_S
            )[name]
            for name in names
        }
        found = {name: answered(future, f"reading the offsets of group {name}") for name, future in futures.items()}
        return {
            name: {
                TopicPartition(p.topic, p.partition): Committed(p.offset, p.metadata or "")
                for p in answer.topic_partitions or []
                if p.offset >= 0
            }
            for name, answer in found.items()
        }


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again while a coordinator is only being chosen, as it is when a cluster has never had a group."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except RecadoError as error:
            cause = error.__cause__
            code = cause.args[0].code() if isinstance(cause, KafkaException) else None
            if code not in _NOT_YET or time.monotonic() > deadline:
                raise
        time.sleep(AGAIN_S)


def _member(found: Any) -> Member:
    held = found.assignment.topic_partitions if found.assignment else ()
    partitions = tuple(TopicPartition(p.topic, p.partition) for p in held)
    return Member(found.member_id, found.client_id, found.host.lstrip("/"), partitions)
