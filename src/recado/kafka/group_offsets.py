"""A group's committed offsets on a real cluster: written with the topic's id beside them, and checked against it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Position

from recado.errors import NotAllowed, RecadoError
from recado.kafka.abstract import Committed
from recado.kafka.failures import client_failure
from recado.kafka.identity import TopicIds, stamped, unstamped
from recado.record import TopicPartition

__all__ = ["GroupOffsets"]

log = structlog.get_logger(__name__)

#: How long the coordinator may take to tell committed offsets, in seconds.
COMMITTED_TIMEOUT_S = 10.0

#: The same for partitions that were just assigned, all tries together, and the rest between two, in seconds: longer
#: than a dead member's transaction lasts (``transaction.timeout.ms``).
ASSIGNED_S = 45.0
AGAIN_S = 0.2

#: How much metadata a broker takes beside an offset, in bytes (the default of its ``offset.metadata.max.bytes``).
METADATA_BYTES = 4096


class GroupOffsets:
    """Commits and reads through a consumer's client. One thread only."""

    def __init__(self, ids: TopicIds) -> None:
        self._ids = ids
        self._metadata_bytes = METADATA_BYTES
        self._fails = False
        #: Of the last commit, in bytes.
        self._longest = 0
        #: Why the last ``commit`` with ``wait`` failed.
        self.refusal = ""

    def commit(self, client: Any, offsets: Mapping[TopicPartition, Committed], *, wait: bool) -> bool:
        """Commit exactly these offsets."""
        positions = [
            Position(*where, committed.offset, metadata=self._stamped(where.topic, committed.metadata))
            for where, committed in offsets.items()
        ]
        self._longest = max((len(position.metadata or "") for position in positions), default=0)
        try:
            results = client.commit(offsets=positions, asynchronous=not wait)
            failed = next((result.error for result in results if result.error), None) if wait else None
        except KafkaException as error:
            failed = error.args[0]
        if failed is not None and not self.refusal:
            log.warning("commit failed, it is repeated", error=failed.str(), offsets=len(positions))
        self._note_size(failed)
        if wait:
            self.refusal = failed.str() if failed is not None else ""
        return failed is None

    def enlisted(self, offsets: Mapping[TopicPartition, Committed]) -> dict[TopicPartition, Committed]:
        """The offsets as they are written: with their topics' ids. Nothing is left out of what stands beside them."""
        return {
            where: committed._replace(metadata=stamped(self._ids.of(where.topic), committed.metadata))
            for where, committed in offsets.items()
        }

    def told(
        self, error: KafkaError | None, positions: Sequence[Position]
    ) -> tuple[dict[TopicPartition, Committed], bool]:
        """What came of a commit without waiting."""
        failed = error or next((position.error for position in positions if position.error), None)
        if failed is not None and not self._fails:
            log.warning("commit failed, the next one carries it", error=failed.str(), offsets=len(positions))
        self._fails = failed is not None
        self._note_size(failed)
        offsets = {
            TopicPartition(position.topic, position.partition): Committed(
                position.offset, unstamped(position.metadata or "")[1]
            )
            for position in positions
        }
        return offsets, failed is None

    def read(self, client: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """Ask the coordinator. Raises RecadoError."""
        return {
            where: found._replace(metadata=unstamped(found.metadata)[1]) for where, found in _stored(client, partitions)
        }

    def read_assigned(
        self, client: Any, assigned: Sequence[TopicPartition], *, held: set[TopicPartition]
    ) -> tuple[dict[TopicPartition, Committed], set[TopicPartition]]:
        """What the group has committed of new partitions, and those whose offset is of an earlier topic of the name.

        Blocks for ``ASSIGNED_S`` at most, then raises RecadoError: who goes on without knowing what is done beyond the
        offset does it again. A transaction of a member that was killed lets the coordinator wait for its end.
        """
        deadline, keep = time.monotonic() + ASSIGNED_S, {where.topic for where in held}
        ids = self._ids.learn({where.topic for where in assigned}, keep=keep)
        stored = _patiently(client, assigned, deadline) if assigned else []
        self._learn_more(ids, stored, keep, deadline)
        good, made_anew = {}, set()
        for where, found in stored:
            was, metadata = unstamped(found.metadata)
            now = ids.get(where.topic, "")
            if was and now and was != now:
                made_anew.add(where)
                log.warning(
                    "topic was made anew, beginning at its first record",
                    topic=where.topic,
                    partition=where.partition,
                    committed=found.offset,
                    was=was,
                    now=now,
                )
            else:
                # What lies beside the offset holds only where it is surely of this topic.
                good[where] = found._replace(metadata=metadata if was == now else "")
        return good, made_anew

    def _learn_more(
        self,
        ids: dict[str, str],
        stored: Sequence[tuple[TopicPartition, Committed]],
        keep: set[str],
        deadline: float,
    ) -> None:
        """Ask again for the ids of topics beside whose offsets one stands: without it what is done beyond is unknown.

        A broker that hangs keeps its connections, so the first question may have gone to it.
        """
        while wanted := {where.topic for where, found in stored if unstamped(found.metadata)[0]} - ids.keys():
            if time.monotonic() >= deadline:
                log.error(
                    "topic ids are not told: what is done beyond the committed offsets is handled again",
                    topics=" ".join(sorted(wanted)),
                )
                return
            time.sleep(AGAIN_S)
            ids |= self._ids.learn(wanted, keep=keep)

    def _stamped(self, topic: str, metadata: str) -> str:
        whole = stamped(self._ids.of(topic), metadata)
        return whole if len(whole) <= self._metadata_bytes else stamped(self._ids.of(topic), "")

    def _note_size(self, failed: KafkaError | None) -> None:
        """A broker may take less beside an offset than others do: then the offset alone must do."""
        if failed is not None and failed.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
            self._metadata_bytes = min(self._metadata_bytes, self._longest) // 2
            log.warning(
                "the broker takes less metadata beside an offset: what is done ahead may run again after a restart",
                remedy="set the broker's offset.metadata.max.bytes to its default, 4096",
                now_at_most=self._metadata_bytes,
            )


def _patiently(
    client: Any, partitions: Sequence[TopicPartition], deadline: float
) -> list[tuple[TopicPartition, Committed]]:
    """Ask again and again."""
    while True:
        try:
            return _stored(client, partitions)
        except RecadoError as error:
            if isinstance(error, NotAllowed) or time.monotonic() >= deadline:
                raise
            log.warning("committed offsets cannot be read yet, asking again", error=str(error))
            time.sleep(AGAIN_S)


def _stored(client: Any, partitions: Sequence[TopicPartition]) -> list[tuple[TopicPartition, Committed]]:
    try:
        found = client.committed([Position(*p) for p in partitions], timeout=COMMITTED_TIMEOUT_S)
    except KafkaException as error:
        raise client_failure(error, "reading committed offsets") from error
    return [
        (TopicPartition(position.topic, position.partition), Committed(position.offset, position.metadata or ""))
        for position in found
        if position.offset >= 0
    ]
