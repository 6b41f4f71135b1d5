"""The recorded shape of an embedded Kafka: version, brokers, ports; and what may follow from it at the next start."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from recado.embedded import ports
from recado.embedded.config import Node
from recado.errors import ConfigurationError, EmbeddedKafkaError

__all__ = ["HOSTS", "Cluster", "Wish", "load", "plan", "save"]

#: What clients may be told to connect to; both are loopback.
HOSTS = ("localhost", "127.0.0.1")

#: More brokers than this on one machine prove nothing that three do not.
_MOST_BROKERS = 5

_FILE = "cluster.json"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is on the disk and, while it runs, what listens where."""

    version: str
    cluster_id: str
    host: str
    secure: bool
    nodes: tuple[Node, ...]

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of every broker's listener for clients."""
        return ",".join(f"{self.host}:{node.port}" for node in self.nodes)

    def node(self, broker_id: int) -> Node:
        """Return a broker by its id. Raises ConfigurationError for one that is not there."""
        for node in self.nodes:
            if node.id == broker_id:
                return node
        raise ConfigurationError(f"There is no broker {broker_id}: they are 1 to {len(self.nodes)}.")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks for. ``brokers`` None: as recorded, else one. ``port`` 0: as recorded if free, else any."""

    version: str
    brokers: int | None
    port: int
    host: str
    secure: bool

    def __post_init__(self) -> None:
        if self.host not in HOSTS:
            raise ConfigurationError(f"host is {self.host!r}; an embedded Kafka listens on {' or '.join(HOSTS)} only.")
        if self.brokers is not None and not 1 <= self.brokers <= _MOST_BROKERS:
            raise ConfigurationError(f"brokers is {self.brokers}; it must be between 1 and {_MOST_BROKERS}.")
        if not 0 <= self.port <= 65535 - _MOST_BROKERS:
            raise ConfigurationError(f"port is {self.port}; it must be between 0 and {65535 - _MOST_BROKERS}.")


def load(folder: Path) -> Cluster | None:
    """Read the record in ``folder``; None when nothing is recorded. Raises EmbeddedKafkaError when it is damaged."""
    path = folder / _FILE
    try:
        table = json.loads(path.read_text("utf-8"))
        table["nodes"] = tuple(Node(**node) for node in table["nodes"])
        return Cluster(**table)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmbeddedKafkaError(f"{path} is damaged ({error}). `recado kafka reset` starts afresh.") from error


def save(cluster: Cluster, folder: Path) -> None:
    """Write the record, whole or not at all."""
    fresh = folder / f"{_FILE}.new"
    fresh.write_text(json.dumps(asdict(cluster), indent=1), "utf-8")
    fresh.replace(folder / _FILE)


def plan(
    recorded: Cluster | None,
    wish: Wish,
    *,
    is_free: Callable[[int], bool] = ports.is_free,
    free_port: Callable[[Collection[int]], int] = ports.free_port,
) -> Cluster:
    """Return the cluster to start, none of whose brokers runs: what is recorded, bent to the wish, on free ports.

    Raises EmbeddedKafkaError when the data on disk cannot serve the wish, or a port that was asked for is taken.
    """
    if recorded is not None:
        _require_compatible(recorded, wish)
    brokers = len(recorded.nodes) if recorded is not None else wish.brokers or 1
    taken: set[int] = set()

    def choose(wished: int, before: int) -> int:
        port = wished or (before if before and before not in taken and is_free(before) else free_port(taken))
        if wished and not is_free(wished):
            raise EmbeddedKafkaError(_port_taken(wished))
        taken.add(port)
        return port

    before = recorded.nodes if recorded is not None else tuple(Node(i, 0, 0) for i in range(1, brokers + 1))
    clients = [choose(wish.port and wish.port + index, node.port) for index, node in enumerate(before)]
    nodes = tuple(
        Node(
            id=node.id,
            port=port,
            controller_port=choose(0, node.controller_port),
            internal_port=choose(0, node.internal_port) if wish.secure else 0,
        )
        for node, port in zip(before, clients, strict=True)
    )
    if recorded is not None:
        return replace(recorded, version=wish.version, host=wish.host, nodes=nodes)
    return Cluster(wish.version, _new_cluster_id(), wish.host, wish.secure, nodes)


def _require_compatible(recorded: Cluster, wish: Wish) -> None:
    reset = "`recado kafka reset` throws the data away and starts afresh"
    if _numbers(wish.version) < _numbers(recorded.version):
        raise EmbeddedKafkaError(
            f"The data was written by Kafka {recorded.version}, which {wish.version} cannot read. Start it with "
            f"--version {recorded.version}; or {reset}."
        )
    if wish.brokers not in (None, len(recorded.nodes)):
        raise EmbeddedKafkaError(
            f"The data holds a cluster of {len(recorded.nodes)} broker(s), not {wish.brokers}. Start it with "
            f"--brokers {len(recorded.nodes)}; or {reset}."
        )
    if wish.secure != recorded.secure:
        kind = "with" if recorded.secure else "without"
        raise EmbeddedKafkaError(f"The data was made {kind} SASL_SSL, which is fixed at the first start; {reset}.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _port_taken(port: int) -> str:
    return (
        f"Port {port} is taken by another program, so the embedded Kafka cannot listen there. If that is a Kafka that "
        f"you want to use, set RECADO_BOOTSTRAP_SERVERS=localhost:{port}; else stop it, or give another --port."
    )


def _new_cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes, base64 for URLs, never looking like an option."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=").replace("-", "_")
