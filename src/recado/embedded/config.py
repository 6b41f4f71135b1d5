"""The configuration files of a broker, rendered from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recado.embedded.ports import LOOPBACK

__all__ = ["Node", "Security", "log4j_1_config", "log4j_2_config", "render_properties", "server_properties"]


@dataclass(frozen=True, slots=True)
class Security:
    """Makes the clients' listener demand SASL_SSL with SCRAM-SHA-512.

    PEM files: certificate chain (naming ``localhost`` and ``127.0.0.1``), private key (PKCS #8, no passphrase), and
    the authority that signed them. ``users`` are names and passwords, written into the storage when it is formatted.
    """

    certificate_pem: Path
    private_key_pem: Path
    ca_pem: Path
    users: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """One broker, a controller too, and its ports on loopback; ``internal_port`` is 0 where the clients' serves."""

    id: int
    port: int
    controller_port: int
    internal_port: int = 0

    @property
    def plain_port(self) -> int:
        """The port that answers without TLS: for the other brokers and for our own questions."""
        return self.internal_port or self.port


#: One partition each: on one machine more of them only cost files and start-up time.
_SINGLE_INTERNAL_PARTITIONS = 1

#: One for each broker, so that coordinators spread.
_CLUSTER_INTERNAL_PARTITIONS = 3

#: The cleaner's default of 128 MiB is a quarter of our heap, for topics that are small here.
_CLEANER_BUFFER_BYTES = 16 * 1024 * 1024

#: A value of 1 MiB, the most that the gateway takes, plus its key, headers and batch: Kafka's own limit is 1 MiB
#: for the whole batch.
_MESSAGE_MAX_BYTES = 1_310_720

#: A broker that was killed may come back only when its session has ended. With the default of 9 s a single broker
#: needed 11 to 14 s from a crash to an answer, with this 4 s; shorter, a busy machine would lose sessions.
_SESSION_TIMEOUT_MS = 3000


def server_properties(
    node: Node,
    nodes: tuple[Node, ...],
    *,
    host: str,
    folder: Path,
    security: Security | None = None,
    properties: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return one broker's ``server.properties``; ``properties`` win over everything."""
    voters = ",".join(f"{n.id}@{LOOPBACK}:{n.controller_port}" for n in nodes)
    values = {
        "process.roles": "broker,controller",
        "node.id": str(node.id),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        # A group of one is complete at once; waiting three seconds for a second member helps nobody here.
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": str(_CLEANER_BUFFER_BYTES),
        "message.max.bytes": str(_MESSAGE_MAX_BYTES),
        "broker.session.timeout.ms": str(_SESSION_TIMEOUT_MS),
        "broker.heartbeat.interval.ms": str(_SESSION_TIMEOUT_MS // 6),
    }
    values |= _listeners(node, host, security, folder)
    values |= _replication(len(nodes))
    return values | dict(properties or {})


def _listeners(node: Node, host: str, security: Security | None, folder: Path) -> dict[str, str]:
    controller = f"CONTROLLER://{LOOPBACK}:{node.controller_port}"
    if security is None:
        return {
            "listeners": f"PLAINTEXT://{LOOPBACK}:{node.port},{controller}",
            "advertised.listeners": f"PLAINTEXT://{host}:{node.port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        }
    internal = f"INTERNAL://{LOOPBACK}:{node.internal_port}"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return {
        "listeners": f"SASL_SSL://{LOOPBACK}:{node.port},{internal},{controller}",
        "advertised.listeners": f"SASL_SSL://{host}:{node.port},{internal}",
        "inter.broker.listener.name": "INTERNAL",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(security.ca_pem.absolute()),
    }


def _replication(brokers: int) -> dict[str, str]:
    single = brokers == 1
    partitions = str(_SINGLE_INTERNAL_PARTITIONS if single else _CLUSTER_INTERNAL_PARTITIONS)
    factor = str(min(brokers, 3))
    in_sync = "2" if brokers >= 3 else "1"
    return {
        "default.replication.factor": factor,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": partitions,
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.num.partitions": partitions,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": partitions,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def render_properties(values: Mapping[str, str]) -> str:
    """Write a Java properties file, ISO 8859-1 escapes and all."""
    return "".join(f"{_escaped(key, key=True)}={_escaped(value, key=False)}\n" for key, value in values.items())


def _escaped(text: str, *, key: bool) -> str:
    special = "\\:= \t#!" if key else "\\"
    escaped = "".join(f"\\{c}" if c in special else c for c in text).replace("\n", "\\n").replace("\r", "\\r")
    escaped = f"\\{escaped}" if escaped.startswith(" ") else escaped
    utf_16 = (c.encode("utf-16-be").hex() for c in escaped)
    return "".join(c if " " <= c <= "~" else _unicode(u) for c, u in zip(escaped, utf_16, strict=True))


def _unicode(utf_16: str) -> str:
    return "".join(f"\\u{utf_16[i : i + 4]}" for i in range(0, len(utf_16), 4))


#: Loggers that print every setting at each start, twice: the file beside the log says the same.
_DUMPS = (
    "org.apache.kafka.common.config.AbstractConfig",
    "kafka.server.KafkaConfig",
    "org.apache.kafka.server.config.AbstractKafkaConfig",
    "org.apache.kafka.clients",
)

_PATTERN = "%d{ISO8601} %-5p %m (%c)%n"


def log4j_2_config(*, level: str, stream: Literal["out", "err"], quiet: tuple[str, ...] = _DUMPS) -> str:
    """Write the log configuration of Kafka 4: everything from ``level`` on to standard output or error."""
    lines = [
        "appender.out.type=Console",
        "appender.out.name=OUT",
        f"appender.out.target=SYSTEM_{stream.upper()}",
        "appender.out.layout.type=PatternLayout",
        f"appender.out.layout.pattern={_PATTERN}",
        f"rootLogger.level={level}",
        "rootLogger.appenderRef.out.ref=OUT",
    ]
    for number, name in enumerate(quiet):
        lines += [f"logger.q{number}.name={name}", f"logger.q{number}.level=WARN"]
    return "\n".join(lines) + "\n"


def log4j_1_config(*, level: str, stream: Literal["out", "err"], quiet: tuple[str, ...] = _DUMPS) -> str:
    """Write the log configuration of Kafka 3, to the same effect."""
    lines = [
        f"log4j.rootLogger={level},out",
        "log4j.appender.out=org.apache.log4j.ConsoleAppender",
        f"log4j.appender.out.target=System.{stream}",
        "log4j.appender.out.layout=org.apache.log4j.PatternLayout",
        f"log4j.appender.out.layout.ConversionPattern={_PATTERN}",
    ]
    lines += [f"log4j.logger.{name}=WARN" for name in quiet]
    return "\n".join(lines) + "\n"
