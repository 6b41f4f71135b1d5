"""The consumer on a real cluster: a member of a group that reads and commits only as it is told."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException
from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import AdminClient

from recado.errors import ConfigurationError, RecadoError
from recado.kafka.abstract import Committed, Enlisted, Message, PartitionListener
from recado.kafka.blind import Blindness
from recado.kafka.failures import client_failure, is_unreachable
from recado.kafka.group_offsets import GroupOffsets
from recado.kafka.identity import TopicIds
from recado.kafka.patterns import posix
from recado.kafka.quiet import Seldom, quiet_logger
from recado.record import TopicPartition

__all__ = ["KafkaConsumer"]

log = structlog.get_logger(__name__)

#: Rest between two looks for a broker while none answers, in seconds; nothing else tells that it is back.
PROBE_EVERY_S = 1.0

#: How long such a look may hold up ``consume``, in seconds: nothing comes meanwhile anyway.
PROBE_TIMEOUT_S = 0.3

#: When nothing has come for so long, in seconds, the client may know no broker any more.
SILENT_S = 10.0

#: Rest between two looks at the member's own id, in seconds: it changes when the coordinator has expelled it.
MEMBER_S = 1.0

_HOPELESS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._FATAL,
    KafkaError.FENCED_INSTANCE_ID,
}


#: A static member's identity belongs to another one, or to an earlier self whose session has not ended (KIP-848).
_STILL_USED = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()

#: A static member's identity was taken over by another one, says its coordinator (classic protocol).
_FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()

#: Who is fenced twice within so long, in seconds, gives way. Once proves nothing: seen where a coordinator had been
#: away and nobody else had the identity. Where somebody has it, each takes it from the other once, and one stays.
FENCED_S = 60.0

#: Rest between two tries to join with such an identity, or to make another client, in seconds.
ANEW_S = 2.0


class KafkaConsumer:
    """Reads from a real cluster (the contract is ``abstract.Consumer``)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._reachable = True
        self._seldom = Seldom()
        self._probe_at = 0.0
        self._config = config
        # Any: its stubs say Optional wherever a message may be an event instead of a record.
        self._client: Any = self._connected()
        self._blindness = Blindness(lambda: AdminClient(dict(config), logger=quiet_logger()))
        #: Why the client must be replaced, and not before which moment (monotonic seconds).
        self._is_done = ""
        self._anew_at = 0.0
        self._fenced_at = -FENCED_S
        self._heard_at = time.monotonic()
        self._member_id, self._member_at = "", 0.0
        self._topics: list[str] = []
        self._ids = TopicIds(config)
        self._offsets = GroupOffsets(self._ids)
        self._held: set[TopicPartition] = set()
        #: Came or went since it was cleared.
        self._moved: set[TopicPartition] = set()
        #: To be read from their first record; what comes of them until they are is of no use.
        self._to_rewind: set[TopicPartition] = set()
        #: Where offsets went back by themselves, and when.
        self._went_back: dict[TopicPartition, float] = {}
        self._listener: PartitionListener | None = None
        self._missing: set[str] = set()
        self._closed = False

    def _connected(self) -> Client:
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit}
        try:
            return Client({**self._config, **callbacks}, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the consumer's settings") from error

    @property
    def reachable(self) -> bool:
        """Whether a broker answered last, as far as is known now."""
        return self._reachable

    @property
    def member_id(self) -> str:
        """By which id the coordinator knows this member now."""
        return self._member_id  # noted by the loop: the client itself is not for other threads, which may see it closed

    def subscribe(self, topics: Sequence[str], listener: PartitionListener) -> None:
        """Join the group for these topic names and patterns."""
        self._listener = listener
        self._topics = [posix(topic) if topic.startswith("^") else topic for topic in topics]
        try:
            self._join()
        except KafkaException as error:
            patterns = ", ".join(topic for topic in topics if topic.startswith("^"))
            if not patterns or error.args[0].code() != KafkaError._INVALID_ARG:
                raise client_failure(error, f"subscribing to {', '.join(topics)}") from error
            detail = f"Kafka's client cannot read {patterns}: it takes POSIX extended patterns, without (?…)"
            raise ConfigurationError(f"{detail} ({error.args[0].str()}).") from error

    def _join(self) -> None:
        self._client.subscribe(
            self._topics,
            on_assign=lambda client, found: self._assigned(found),
            on_revoke=lambda client, found: self._revoked(found),
            on_lost=lambda client, found: self._lost(found),
        )

    def consume(self, max_records: int, timeout_s: float) -> list[Message]:
        """Return what is there; wait up to ``timeout_s`` only for the first record."""
        if self._is_done and time.monotonic() >= self._anew_at:
            self._start_anew()
        self._notice_new_topics()
        self._note_member()
        if self._to_rewind:
            self._rewind()
        batch: list[Any] = self._client.consume(max_records, 0)
        if not batch:
            first = self._client.poll(timeout_s)
            if first is None:
                self._probe()
                self._doubt()
                return []
            self._moved.clear()
            batch = self._client.consume(max_records, 0)
            if (first.topic(), first.partition()) not in self._moved:  # else it is of an earlier stay
                batch.insert(0, first)
        self._heard_at = time.monotonic()
        if self._to_rewind:
            batch = [m for m in batch if (m.topic(), m.partition()) not in self._to_rewind]
        return self._heard(batch) if any(message.error() for message in batch) else batch

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch no more from these until ``resume``."""
        self._client.pause([Position(*partition) for partition in partitions])

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch from these again."""
        self._client.resume([Position(*partition) for partition in partitions])

    def topic_id(self, topic: str) -> str:
        """The id of a topic of which this member holds a partition."""
        return self._ids.of(topic)

    def went_back(self, partition: TopicPartition) -> None:
        """The owner saw offsets go back here."""
        self._went_back[partition] = time.monotonic()
        self._ids.hurry()

    def commit(self, offsets: Mapping[TopicPartition, Committed], *, wait: bool) -> bool:
        """Commit exactly these offsets."""
        return self._offsets.commit(self._client, offsets, wait=wait)

    def enlist(self, offsets: Mapping[TopicPartition, Committed]) -> Enlisted:
        """What a transaction needs to commit these offsets in this member's name."""
        return Enlisted(self._offsets.enlisted(offsets), self._client.consumer_group_metadata())

    @property
    def refusal(self) -> str:
        """Why the last ``commit`` with ``wait`` failed."""
        return self._offsets.refusal

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """Ask the coordinator for the group's committed offsets."""
        return self._offsets.read(self._client, partitions)

    def close(self) -> None:
        """Leave the group; the listener's ``on_revoke`` runs inside."""
        if not self._closed:
            self._closed = True
            self._client.close()
            self._ids.close()

    def _heard(self, batch: list[Any]) -> list[Message]:
        """The records of a batch, once what else it holds was heard."""
        records: list[Message] = []
        ends: list[Any] = []
        for message in batch:
            error: KafkaError | None = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.append(message)
            else:
                self._hear(message.topic() or "", error)
        # Only now: where an error ends it all, nobody gets the records that stand before these ends.
        for end in ends:
            self._reachable = True
            if self._listener is not None:
                self._listener.on_end(TopicPartition(end.topic(), end.partition()), end.offset())
        return records

    def _hear(self, topic: str, error: KafkaError) -> None:
        if _STILL_USED in error.str():
            self._wait_for_identity()
            return
        if _FENCED in error.str() and self._claims_its_identity():
            return
        if error.fatal() or error.code() in _HOPELESS:
            raise client_failure(error, f"consuming {topic or 'topics'}")
        self._say(topic, error)

    def _notice_new_topics(self) -> None:
        """Begin anew with topics that were deleted and made anew under our hands."""
        changed = self._ids.changed({where.topic for where in self._held})
        if changed is None:
            return
        for topic, new_id in changed.items():
            log.warning(
                "topic was made anew, beginning at its first record", topic=topic, was=self._ids.of(topic), now=new_id
            )
            partitions = sorted(p for p in self._held if p.topic == topic and p not in self._went_back)
            self._ids.begin(topic, new_id)
            self._to_rewind.update(partitions)
            if partitions and self._listener is not None:
                self._listener.on_lost(partitions)
                self._listener.on_assign(dict.fromkeys(partitions))
        self._went_back = {where: at for where, at in self._went_back.items() if at > self._ids.asked_at}

    def _note_member(self) -> None:
        if (now := time.monotonic()) >= self._member_at:
            self._member_at = now + MEMBER_S
            self._member_id = self._client.memberid() or ""

    def _rewind(self) -> None:
        for where in sorted(self._to_rewind):
            try:
                self._client.seek(Position(*where, OFFSET_BEGINNING))
                self._to_rewind.discard(where)
            except KafkaException:
                continue  # it has no leader yet, or its first fetch has not begun: the next round tries again

    def _say(self, topic: str, error: KafkaError) -> None:
        self._ids.hurry()
        if error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            log.warning("consumer error", topic=topic, error=error.str(), code=error.name())
        elif topic not in self._missing:
            self._missing.add(topic)
            if topic.startswith("^"):
                log.warning("no topic matches this pattern yet, waiting for one", pattern=topic)
                return
            remedy = f"recado kafka topics --create --topic {topic} --partitions 3"
            log.warning("topic does not exist yet, waiting for it", topic=topic, remedy=remedy)

    def _doubt(self) -> None:
        if time.monotonic() - self._heard_at > SILENT_S:
            self._heard_at = time.monotonic()
            self._blindness.suspect(self._client, self._found_blind)

    def _found_blind(self) -> None:
        self._is_done = "it knew no broker any more, though others do"

    def _wait_for_identity(self) -> None:
        self._is_done, self._anew_at = "its identity was another member's", time.monotonic() + ANEW_S
        if self._seldom.now(_STILL_USED):
            log.warning(
                "another member has this identity, waiting for it",
                identity=self._config.get("group.instance.id"),
                remedy="a killed one keeps it for its session; else give each worker its own group.instance.id",
            )

    def _claims_its_identity(self) -> bool:
        """Let go of all that is held and join anew, unless that was done a moment ago: then it is another's, indeed."""
        if self._is_done:
            return True  # the same fence, told once more
        if time.monotonic() < self._fenced_at + FENCED_S:
            return False
        self._fenced_at = time.monotonic()
        self._is_done = "its coordinator told it that another member has its identity"
        log.warning(
            "fenced by another member of this identity, claiming it once more",
            identity=self._config.get("group.instance.id"),
            remedy="give each worker its own group.instance.id",
        )
        if self._listener is not None:
            self._listener.on_lost(sorted(self._held))
        return True

    def _start_anew(self) -> None:
        """Replace a client that is of no use any more: what is not committed comes again."""
        try:
            client = self._connected()
        except RecadoError as error:  # a file of its settings is gone
            self._anew_at = time.monotonic() + ANEW_S
            log.error("consumer cannot be replaced, trying again", error=str(error))
            return
        why, self._is_done = self._is_done, ""
        log.info("consumer replaced", why=why)
        self._client.close()
        self._client = client
        self._join()

    def _probe(self) -> None:
        if self._reachable or time.monotonic() < self._probe_at:
            return
        try:
            self._client.list_topics(timeout=PROBE_TIMEOUT_S)
            self._reachable = True
            log.info("kafka reachable again")
        except KafkaException:
            self._probe_at = time.monotonic() + PROBE_EVERY_S

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._reachable = False
        event = "kafka unreachable, waiting for it" if is_unreachable(error) else "kafka error"
        if self._seldom.now(event + error.name()):
            log.warning(event, error=error.str(), code=error.name())

    def _on_commit(self, error: KafkaError | None, positions: Sequence[Position]) -> None:
        offsets, ok = self._offsets.told(error, positions)
        if self._listener is not None:
            self._listener.on_commit(offsets, ok)

    def _assigned(self, found: Sequence[Position]) -> None:
        partitions = _partitions(found)
        self._moved.update(partitions)
        try:
            stored, made_anew = self._offsets.read_assigned(self._client, partitions, held=self._held)
        except RecadoError as error:
            # Nothing of them is handed out: the owner does not hold them. Another client joins anew.
            log.error("committed offsets cannot be read, joining anew", error=str(error))
            self._is_done, self._anew_at = "committed offsets could not be read", time.monotonic() + ANEW_S
            return
        self._to_rewind |= made_anew
        self._held.update(partitions)
        if self._listener is not None:
            self._listener.on_assign({where: stored.get(where) for where in partitions})

    def _revoked(self, found: Sequence[Position]) -> None:
        if self._listener is not None:
            self._listener.on_revoke(_partitions(found))
        self._let_go(found)

    def _lost(self, found: Sequence[Position]) -> None:
        if self._listener is not None:
            self._listener.on_lost(_partitions(found))
        self._let_go(found)

    def _let_go(self, found: Sequence[Position]) -> None:
        self._client.resume(list(found))  # librdkafka keeps a paused one paused, even when it comes back
        self._moved.update(_partitions(found))
        self._held.difference_update(_partitions(found))
        self._to_rewind &= self._held


def _partitions(positions: Sequence[Position]) -> list[TopicPartition]:
    return [TopicPartition(position.topic, position.partition) for position in positions]
