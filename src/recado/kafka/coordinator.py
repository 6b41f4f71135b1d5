"""What a real cluster says of a group and its partitions, asked beside the consumer's own client."""

from __future__ import annotations

from collections.abc import Sequence

from recado.kafka.admin import Admin
from recado.kafka.groups import Group, Groups
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["KafkaCoordinator"]


class KafkaCoordinator:
    """Asks a real cluster (the contract is ``abstract.Coordinator``)."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._group = group
        self._admin = Admin(settings)
        self._groups = Groups(self._admin)

    def owned(self, member: str) -> set[TopicPartition] | None:
        """What the coordinator has given to a member."""
        members = self._groups.describe([self._group])[self._group].members
        return next((set(found.partitions) for found in members if found.id == member), None)

    def group(self, name: str) -> Group:
        """State and members of a group."""
        return self._groups.describe([name])[name]

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The last stable offset of each partition that has a leader."""
        return self._admin.stable_ends(list(partitions), led_only=True)

    def begins(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that each partition still has."""
        return self._admin.begins(list(partitions), led_only=True)

    def close(self) -> None:
        """Nothing to stop: the client ends with its last reference."""
