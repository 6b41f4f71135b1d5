"""Where a run takes place: a Kafka of its own, gateways, a topic; all of it on free ports, and gone at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from recado.embedded import EmbeddedKafka, ProgressCallback
from recado.embedded.ports import free_port
from recado.torture.disk import SmallDisk, small_disk
from recado.torture.history import History, Outage
from recado.torture.programs import Gateway, Surroundings
from recado.torture.sender import Clock

__all__ = ["PARTITIONS", "TOPIC", "Stage", "set_up"]

TOPIC = "torture"

#: More than one broker's share, so that a broker's fault strikes some partitions and spares others.
PARTITIONS = 6

#: What is running at the end is ours and holds nothing that outlives it, so a slow clean stop is cut short.
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a fault may strike."""

    surroundings: Surroundings
    kafka: EmbeddedKafka
    brokers: int
    gateways: tuple[Gateway, ...]
    #: By number of the gateway; the reason where it has none.
    disks: Mapping[int, SmallDisk | str]
    history: History
    clock: Clock

    def gateway(self, number: int) -> Gateway:
        """A gateway by its number."""
        return self.gateways[number - 1]

    def alter_topic(self, setting: str) -> None:
        """Change a setting of the topic."""
        entity = ["--entity-type", "topics", "--entity-name", TOPIC]
        self.surroundings.tool("configs", ["--alter", *entity, "--add-config", setting])

    @contextmanager
    def out(self, gateway: Gateway, why: str) -> Iterator[list[str]]:
        """Write down that a gateway is out while the block lasts, with what the block adds to the list it is given."""
        words = [why]
        from_s = self.clock.now()
        try:
            yield words
        finally:
            self.history.add(Outage(gateway.number, ", ".join(words), from_s, self.clock.now()))


@contextmanager
def set_up(
    surroundings: Surroundings,
    *,
    environment: Mapping[str, str],
    kafka_version: str,
    brokers: int,
    gateways: int,
    history: History,
    clock: Clock,
    progress: ProgressCallback,
) -> Iterator[Stage]:
    """Start everything, and end all of it when the block does, however it does."""
    with ExitStack() as ending:
        folder: Path = surroundings.folder
        kafka = EmbeddedKafka(folder, java_env=environment, version=kafka_version, brokers=brokers, port=0)
        ending.callback(kafka.stop, _STOP_S)
        kafka.start(progress)
        surroundings.bootstrap_servers = kafka.bootstrap_servers
        surroundings.tool("topics", ["--create", "--topic", TOPIC, "--partitions", str(PARTITIONS)])
        ports: list[int] = []
        made: list[Gateway] = []
        disks: dict[int, SmallDisk | str] = {}
        for number in range(1, gateways + 1):
            ports.append(free_port(ports))
            gateway = Gateway(surroundings, number, ports[-1])
            disks[number] = ending.enter_context(small_disk(gateway.folder))
            ending.callback(gateway.kill)
            gateway.start()
            made.append(gateway)
        yield Stage(surroundings, kafka, brokers, tuple(made), disks, history, clock)
