"""What Kafka says of a group, asked in a process of its own.

librdkafka's questions to a coordinator were seen to end their process (an assertion of its own, when the coordinator
died in the middle of one): a worker must not pay for that with its life.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from recado.errors import NoProcess
from recado.kafka.coordinator import KafkaCoordinator
from recado.record import TopicPartition
from recado.settings import Settings
from recado.worker.handling.zygote import Lane, Zygote

__all__ = ["CoordinatorApart"]

log = structlog.get_logger(__name__)

#: How long an answer may take, in seconds: longer than the questions themselves.
ANSWER_S = 20.0


class CoordinatorApart:
    """Asks in another process (the contract is ``abstract.Coordinator``). Make it before there are threads."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._zygote = Zygote(_Asking(settings, group))
        self._lane = Lane(self._zygote, ANSWER_S)
        self._group = group
        self._said = False

    def owned(self, member: str) -> set[TopicPartition] | None:
        """What the coordinator has given to a member."""
        found: set[TopicPartition] | None = self.ask("owned", member)
        return found

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The last stable offset of each partition."""
        found: dict[TopicPartition, int] = self.ask("ends", list(partitions))
        return found

    def begins(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that each partition still has."""
        found: dict[TopicPartition, int] = self.ask("begins", list(partitions))
        return found

    def close(self) -> None:
        """Let the other process end. Called by the thread that asks."""
        self._lane.close()
        self._zygote.close()

    def ask(self, question: str, argument: Any) -> Any:
        """Any other question that ``KafkaCoordinator`` answers."""
        try:
            return self._lane.call((question, argument))
        except NoProcess as error:
            if not self._said:
                log.error("kafka cannot be asked what it says of this group", group=self._group, error=str(error))
            self._said = True
            raise


class _Asking:
    """What the other process does: its client is made at the first question, and kept."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._connect = partial(KafkaCoordinator, settings, group)
        self._kafka: KafkaCoordinator | None = None
        self.__qualname__ = "coordinator"

    def __call__(self, asked: tuple[str, Any]) -> Any:
        if self._kafka is None:
            self._kafka = self._connect()
        question, argument = asked
        return getattr(self._kafka, question)(argument)
