"""What the rest of recado may ask of Kafka: the contracts that a real cluster and the in-memory twin keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from recado.errors import RecadoError
from recado.kafka.delivery import Delivery
from recado.record import Outgoing, TopicPartition

__all__ = [
    "Clients",
    "Committed",
    "Consumer",
    "Coordinator",
    "Enlisted",
    "Link",
    "Message",
    "Outlet",
    "PartitionListener",
    "Producer",
    "Reader",
    "Topics",
    "Transacted",
    "Transactor",
]


class Producer(Protocol):
    """Writes records and tells the fate of each. Thread-safe.

    Exactly one report follows each record that ``send`` took. Reports come on a thread of the producer's own, or on
    that of who took over; a delivery's ``on_complete`` must neither block nor raise.
    """

    def send(self, delivery: Delivery) -> None:
        """Queue the delivery's records in their order; never blocks, never raises for a record's sake.

        What cannot even be queued (queue full, too large) is reported in the delivery like any other failure.
        """

    def take_over(self) -> None:
        """Serve the reports by ``serve`` from now on: under load, a thread switch per report is what costs."""

    def serve(self) -> None:
        """Serve the reports that are there now, on the calling thread, which took over. Never blocks."""

    def hand_back(self) -> None:
        """Let the producer's own thread serve the reports again."""

    def outstanding(self) -> int:
        """How many records were taken whose report is still to come."""

    def close(self, timeout_s: float) -> int:
        """Wait for reports, then stop; return how many records were given up without one."""


class Topics(Protocol):
    """What is known of the cluster's topics, without asking it in the request path. Thread-safe."""

    def partitions(self, topic: str) -> int | None:
        """The topic's partition count as last seen, or None when it is unknown. Never blocks."""

    @property
    def is_blank(self) -> bool:
        """Whether no topic is known at all, and no broker answers that could tell of one. Never blocks."""

    def refresh(self) -> bool:
        """Ask the cluster now (blocks for some seconds at most); True when it answered."""

    def suspect(self) -> None:
        """Reports are overdue: look soon whether the cluster still answers. Never blocks."""

    def close(self) -> None:
        """Ask the cluster no more; what is known stays known. Never blocks. Idempotent."""

    @property
    def reachable(self) -> bool:
        """Whether the cluster answered last time, as far as is known now."""


class Link(NamedTuple):
    """What a gateway needs of a cluster: a producer for requests, the topics, and one for what can wait."""

    producer: Producer
    topics: Topics
    #: Makes a producer that never gives a record up: its reports are good, or say that Kafka refused the record.
    patient: Callable[[], Producer]


class Message(Protocol):
    """One consumed record, in confluent_kafka's shape: methods, so that nothing is decoded unasked."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def leader_epoch(self) -> int | None:
        """Under which leader of its partition it was written; None or -1 where the broker does not tell."""

    def timestamp(self) -> tuple[int, int]:
        """(timestamp type, milliseconds since the epoch); type 0 means that there is none."""

    def __len__(self) -> int:
        """The value's size in bytes (0 for a tombstone)."""


class Committed(NamedTuple):
    """A group's committed offset: the next one to handle, with the metadata text stored beside it."""

    offset: int
    metadata: str = ""


class PartitionListener(Protocol):
    """What a consumer tells its owner. Every call comes from inside ``consume`` or ``close``, on that thread."""

    def on_assign(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        """These partitions are this member's from now on (added to those it had), with what the group has committed.

        None where it has committed nothing, or nothing that still holds, or the coordinator did not tell.
        """

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """These are taken away when this call returns: the last moment to finish and commit them."""

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These were taken away already: nothing may be committed for them."""

    def on_end(self, partition: TopicPartition, offset: int) -> None:
        """The partition was read up to ``offset`` (exclusive), transaction markers and gaps included."""

    def on_commit(self, offsets: Mapping[TopicPartition, Committed], ok: bool) -> None:
        """What came of a ``commit`` without ``wait``: these offsets are committed, or (``ok`` False) are not."""


class Consumer(Protocol):
    """Reads as a member of a group, read_committed, and commits only what it is told. One thread only.

    A topic that is deleted and made anew under its name is another log, where old offsets mean nothing. It is noticed
    within seconds: its partitions are told as lost and assigned, and read from their first record. Offsets are
    committed with the topic's id beside them; those of an earlier topic are not gone on from.
    """

    @property
    def reachable(self) -> bool:
        """Whether a broker answered last, as far as is known now. Any thread may ask."""

    @property
    def member_id(self) -> str:
        """By which id the coordinator knows this member now; empty before it has joined. Any thread may ask."""

    def subscribe(self, topics: Sequence[str], listener: PartitionListener) -> None:
        """Join the group for these topic names and patterns (a pattern starts with ``^``)."""

    def consume(self, max_records: int, timeout_s: float) -> list[Message]:
        """Return what is there, up to ``max_records``; wait up to ``timeout_s`` only for the first record.

        Records of one partition come in offset order. Raises NotAllowed or ConfigurationError when going on
        makes no sense; an unreachable broker is no error: it is waited for.
        """

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch no more from these until ``resume``; drops what was prefetched (it is fetched again).

        One that was taken away meanwhile and comes back is not paused.
        """

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch from these again, at the record after the last one that ``consume`` returned."""

    def topic_id(self, topic: str) -> str:
        """The id of a topic of which this member holds a partition; empty where nobody tells."""

    def went_back(self, partition: TopicPartition) -> None:
        """Hear that the owner saw offsets go back here: it has begun again, and need not be told to once more."""

    def commit(self, offsets: Mapping[TopicPartition, Committed], *, wait: bool) -> bool:
        """Commit exactly these offsets; with ``wait`` block until the coordinator has answered.

        Returns False when the coordinator refused or did not answer (the offsets then are as they were);
        without ``wait`` the listener's ``on_commit`` tells what came of it, from inside a later ``consume``.
        While the group rebalances the coordinator may refuse every commit of a member that has not caught up;
        only ``consume`` lets it catch up. ``close`` does not: commit first.
        """

    def enlist(self, offsets: Mapping[TopicPartition, Committed]) -> Enlisted:
        """What a transaction needs to commit these offsets in this member's name. Never blocks."""

    @property
    def refusal(self) -> str:
        """Why the last ``commit`` with ``wait`` returned False; empty when it did not."""

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """The group's committed offsets of these partitions; those without one are left out. Blocks."""

    def close(self) -> None:
        """Leave the group (revoking what is assigned first). Idempotent."""


class Reader(Protocol):
    """Reads chosen partitions as a member of no group, read_committed, beside a ``Consumer``. One thread only."""

    def add(self, starts: Mapping[TopicPartition, int | None]) -> None:
        """Read these, too, from these offsets; None is the earliest record, and so is an offset that is gone."""

    def drop(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these no more."""

    def read(self, max_records: int, timeout_s: float) -> tuple[list[Message], dict[TopicPartition, int]]:
        """Return what is there, in offset order by partition, and the partitions read to their end with that end.

        Waits up to ``timeout_s`` only for the first record. Raises NotAllowed when going on makes no sense; an
        unreachable broker is waited for.
        """

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch no more from these until ``resume``, or until they are dropped and added again."""

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch from these again, at the record after the last one that ``read`` returned."""

    def close(self) -> None:
        """Read no more. Idempotent."""


class Clients(Protocol):
    """Makes clients of one cluster, for a part of recado that needs its own. Thread-safe."""

    def producer(self) -> Producer:
        """A new producer that gathers records for some milliseconds: for many, and none in a hurry."""

    def consumer(self, group: str) -> Consumer:
        """A new member of a group that starts at the earliest record."""

    def create_topic(self, name: str, *, partitions: int, config: Mapping[str, str]) -> bool:
        """Create a topic with up to three replicas; False when it was there already. Blocks; raises RecadoError."""

    def takes_bytes(self, topic: str = "") -> int:
        """How large a record a topic takes, or any for which nothing is set; 0 where Kafka does not tell.

        Blocks; raises KafkaUnreachable.
        """

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Let Kafka delete the records below these offsets, in its own time. Never blocks, never raises."""


class Coordinator(Protocol):
    """What Kafka says of a group, beside what its members believe. Any one thread; its calls block for some seconds.

    They raise KafkaUnreachable and other RecadoErrors.
    """

    def owned(self, member: str) -> set[TopicPartition] | None:
        """What the coordinator has given to a member; None where it knows no such member now."""

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Up to where (exclusive) each partition can be read with read_committed."""

    def begins(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that each partition still has."""

    def close(self) -> None:
        """Ask no more."""


class Enlisted(NamedTuple):
    """Offsets as a transaction commits them, with the membership under which the coordinator takes them."""

    offsets: Mapping[TopicPartition, Committed]
    membership: Any


class Transacted(NamedTuple):
    """What came of a transaction: all of it is there, or nothing is."""

    committed: bool
    #: By index, the records that Kafka refuses for good: leave them out before the next try.
    refused: Mapping[int, RecadoError] = {}
    #: Why it was not committed, for a person.
    why: str = ""


class Transactor(Protocol):
    """Writes records and a group's offsets in one transaction at a time. One thread only."""

    def transact(self, records: Sequence[Outgoing], enlisted: Enlisted) -> Transacted:
        """Block until all of it is in Kafka or nothing is, and that is known for certain; never raises.

        While no broker answers it blocks; ``close``, from another thread, ends that.
        """

    def close(self) -> None:
        """Let the producer go; an open transaction is aborted by the broker in its time. Any thread."""


class Outlet(NamedTuple):
    """What a worker needs of a cluster to send, and to make the topics of its group."""

    #: Never gives a record up: its reports are good, or say that Kafka refused the record.
    producer: Producer
    topics: Topics
    clients: Clients
    #: Makes a transactor for a group.
    transactor: Callable[[str], Transactor]
