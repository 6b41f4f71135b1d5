"""What a share group lends: the contract that its consumer keeps (KIP-932)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from recado.kafka.abstract import Message

__all__ = ["ShareConsumer", "ShareMessage", "Verdict"]


class Verdict(Enum):
    """How a record that a share group lent is given back."""

    ACCEPT = "accept"
    #: It comes again, perhaps to another member, and the broker counts that.
    RELEASE = "release"
    #: It never comes again.
    REJECT = "reject"


class ShareMessage(Message, Protocol):
    """A record that a share group lent to this member."""

    def delivery_count(self) -> int | None:
        """Which delivery this is, from 1."""


class ShareConsumer(Protocol):
    """A member of a share group (KIP-932): records are lent one by one, for a time. One thread only.

    https://cwiki.apache.org/confluence/display/KAFKA/KIP-932
    """

    @property
    def reachable(self) -> bool:
        """Whether a broker answered last, as far as is known now. Any thread may ask."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics; a new group begins with the earliest record."""

    def poll(self, timeout_s: float) -> list[ShareMessage]:
        """Borrow some records. What the last call returned must have been given back.

        Raises NotAllowed or ConfigurationError when going on makes no sense.
        """

    def give_back(self, verdicts: Sequence[tuple[ShareMessage, Verdict]]) -> set[tuple[str, int, int]]:
        """Give every borrowed record back, and wait for the brokers' answers.

        Returns (topic, partition, offset) of those that were taken back already: they come again.
        """

    def close(self) -> None:
        """Leave the group. Idempotent."""
