"""Where a run takes place: a Kafka of its own, topics, a feed and workers, all of it gone at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from recado.embedded import EmbeddedKafka, ProgressCallback
from recado.torture.programs import Surroundings
from recado.torture.worker.feed import Feed
from recado.torture.worker.member import Member

__all__ = ["Membership", "Stage", "set_up"]

#: More than a member's share, so that members have several, and some move.
PARTITIONS = 6

#: A member that was killed or stopped is missed after so long, in seconds: a short one leaves time for more faults.
SESSION_S = 6.0

#: For members of the new protocol the broker decides, and by default allows nothing so short.
_SHORT_SESSIONS = {
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": str(int(SESSION_S * 1000)),
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "1000",
}

_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Membership:
    """How the workers are members of their group: ``protocol`` classic or consumer (KIP-848), static or not."""

    protocol: str
    is_static: bool

    def settings(self, name: str) -> dict[str, str]:
        """What a worker of this name is told."""
        told = {"RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL": self.protocol}
        if self.protocol == "classic":
            told["RECADO_KAFKA_CONSUMER_SESSION_TIMEOUT_MS"] = str(int(SESSION_S * 1000))
            told["RECADO_KAFKA_CONSUMER_HEARTBEAT_INTERVAL_MS"] = "1000"
        if self.is_static:
            told["RECADO_KAFKA_CONSUMER_GROUP_INSTANCE_ID"] = name
        return told


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a fault may strike."""

    surroundings: Surroundings
    kafka: EmbeddedKafka
    brokers: int
    group: str
    members: tuple[Member, ...]
    #: The member that comes and goes.
    visitor: Member
    feed: Feed

    @property
    def workers(self) -> int:
        """How many workers stay."""
        return len(self.members)

    def worker(self, number: int) -> Member:
        """A worker by its number, from 1."""
        return self.members[number - 1]

    def guest(self) -> Member:
        """The member that comes and goes."""
        return self.visitor


@contextmanager
def set_up(
    surroundings: Surroundings,
    *,
    environment: Mapping[str, str],
    kafka_version: str,
    brokers: int,
    workers: int,
    target: str,
    group: str,
    topics: Sequence[str],
    membership: Membership,
    rate: float,
    progress: ProgressCallback,
) -> Iterator[Stage]:
    """Start everything, and end all of it when the block does, however it does."""
    with ExitStack() as ending:
        kafka = EmbeddedKafka(
            surroundings.folder, java_env=environment, version=kafka_version, brokers=brokers, port=0,
            properties=_SHORT_SESSIONS,
        )  # fmt: skip
        ending.callback(kafka.stop, _STOP_S)
        kafka.start(progress)
        surroundings.bootstrap_servers = kafka.bootstrap_servers
        for topic in topics:
            surroundings.tool("topics", ["--create", "--topic", topic, "--partitions", str(PARTITIONS)])
        names = [*(f"worker-{number}" for number in range(1, workers + 1)), "guest"]
        shared = {"RECADO_GROUP": group, "RECADO_TOPIC": topics[0], "RECADO_LOG_FORMAT": "json"}
        shared |= {"RECADO_WORKER_PORT": "0"}
        made = [
            Member(surroundings, name, target, settings={**shared, **membership.settings(name)}, session_s=SESSION_S)
            for name in names
        ]
        for member in made:
            ending.callback(member.kill)
        feed = Feed(surroundings, topics, rate=rate)
        ending.callback(feed.stop)
        for member in made[:-1]:
            member.start()
        feed.start()
        yield Stage(surroundings, kafka, brokers, group, tuple(made[:-1]), made[-1], feed)
