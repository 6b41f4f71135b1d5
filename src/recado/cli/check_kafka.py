"""What `recado doctor` checks of Kafka: the way there, the brokers, the topic, the group, and what is asked of them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from recado.cli.finding import Finding, ok, problem, warning
from recado.errors import ConfigurationError, NotAllowed, RecadoError
from recado.kafka.admin import Cluster, TopicLayout
from recado.kafka.config import consumer_config, producer_config
from recado.kafka.consumer import KafkaConsumer
from recado.kafka.groups import Group, GroupLag
from recado.kafka.producer import KafkaProducer
from recado.settings import Settings

__all__ = [
    "check_advertised",
    "check_clients",
    "check_properties",
    "check_way",
    "judge_failure",
    "judge_group",
    "judge_topic",
]

#: A broker that is near answers a connection in milliseconds, one across the world in half a second.
CONNECT_TIMEOUT_S = 3.0

#: Kafka's own port, where a server names none.
PORT = 9092


def check_properties(settings: Settings) -> Finding:
    """Whether librdkafka properties undo what recado promises."""
    producer, consumer = producer_config(settings), consumer_config(settings, settings.group)
    acks = str(producer.get("acks", producer.get("request.required.acks"))).lower()
    if acks not in ("all", "-1"):
        detail = f"acks={acks}: a record that was answered 200 can be lost with one broker"
        return warning("durability", detail, "remove it from the [kafka] settings")
    if str(producer.get("enable.idempotence")).lower() == "false":
        detail = "enable.idempotence=false: a repeated attempt can make a second record or change the order"
        return warning("durability", detail, "remove it from the [kafka] settings")
    if consumer.get("isolation.level") != "read_committed":
        detail = f"isolation.level={consumer.get('isolation.level')}: the worker sees what a transaction took back"
        return warning("durability", detail, "remove it from the [kafka] settings")
    return ok("durability", "acks=all, idempotent producer, read_committed consumer")


def check_clients(settings: Settings) -> Finding:
    """Whether librdkafka takes every property, of all clients and of each side."""
    try:
        KafkaProducer(producer_config(settings)).close(0)
        KafkaConsumer(consumer_config(settings, settings.group)).close()
    except ConfigurationError as error:
        remedy = "look the property up in librdkafka's CONFIGURATION.md; `recado settings` tells where it is set"
        return problem("settings", str(error), remedy)
    return ok("settings", "every key is known and every value allowed")


def check_way(server: str) -> Finding:
    """Whether the name of one bootstrap server is known and its port open."""
    host, port = _address(server)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        detail = f"{server}: the name {host!r} is not known ({getattr(error, 'strerror', None) or error})"
        return problem("way to kafka", detail, "check RECADO_BOOTSTRAP_SERVERS and this machine's DNS")
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        detail = f"{server}: port {port} does not open ({error.strerror or error})"
        local = found[0][4][0] in ("127.0.0.1", "::1")
        remedy = "start Kafka (`recado kafka start`)" if local else "start Kafka, or let the firewall pass"
        return problem("way to kafka", detail, f"{remedy}, or set RECADO_BOOTSTRAP_SERVERS")
    return ok("way to kafka", f"{server}: the name is known and the port open")


def judge_failure(error: RecadoError, settings: Settings) -> Finding:
    """Why the protocol does not answer although a port is open."""
    protocol = settings.kafka.get("security.protocol", "plaintext").upper()
    detail = str(error).partition(". Is Kafka running?")[0]  # its advice is to come here
    if isinstance(error, NotAllowed):
        return problem("kafka", detail, "check sasl.username, sasl.password and the ACLs of this user")
    remedy = f"is it Kafka, and does that listener speak {protocol}? Set security.protocol as the broker's log says"
    return problem("kafka", detail, remedy)


def check_advertised(cluster: Cluster) -> Finding:
    """Whether every broker can be reached where it says it is: clients go there, whatever they were told first."""
    unreachable = []
    for broker in cluster.brokers:
        try:
            socket.create_connection((broker.host, broker.port), CONNECT_TIMEOUT_S).close()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            unreachable.append(f"broker {broker.id} says that it is {broker.host}:{broker.port} ({reason})")
    if unreachable:
        remedy = "set advertised.listeners of that broker to an address that this machine reaches"
        return problem("brokers", "; ".join(unreachable), remedy)
    count = len(cluster.brokers)
    return ok("brokers", "1, reached where it says it is" if count == 1 else f"{count}, all reached where they say")


def judge_topic(topic: TopicLayout | None, brokers: int, settings: Settings) -> Finding:
    """Whether the topic is there and keeps what it is given."""
    name = settings.topic
    if topic is None:
        remedy = f"recado kafka topics --create --topic {name} --partitions 3"
        return problem("topic", f"{name} does not exist", remedy)
    replicas = min((partition.replicas for partition in topic.partitions), default=0)
    needed = int(topic.config.get("min.insync.replicas", 1))
    shape = f"{name} has {_count(len(topic.partitions), 'partition')}, {_count(replicas, 'replica')}"
    leaderless = [partition.number for partition in topic.partitions if partition.leader is None]
    if leaderless:
        return problem("topic", f"{name}: nobody leads {_numbers(leaderless)}", "start the brokers that hold them")
    short = [partition.number for partition in topic.partitions if partition.in_sync < needed]
    if short:
        detail = f"{name}: fewer than min.insync.replicas={needed} are in sync for {_numbers(short)}, so writes fail"
        return problem("topic", detail, "start the missing brokers, or lower min.insync.replicas")
    return _judge_safety(topic, shape, replicas, needed, brokers, settings)


def _judge_safety(
    topic: TopicLayout, shape: str, replicas: int, needed: int, brokers: int, settings: Settings
) -> Finding:
    configs = f"recado kafka configs --alter --entity-type topics --entity-name {topic.name} --add-config"
    if replicas == 1 and brokers > 1:
        return warning("topic", f"{shape}: it is lost with its broker", "recreate it with --replication-factor 3")
    if replicas > 1 and needed >= replicas:
        detail = f"{shape}, min.insync.replicas={needed}: one broker less stops all writes"
        return warning("topic", detail, f"{configs} min.insync.replicas={replicas - 1}")
    if replicas > 2 and needed < 2:
        detail = f"{shape}, min.insync.replicas={needed}: a confirmed record may be on one broker only"
        return warning("topic", detail, f"{configs} min.insync.replicas=2")
    if topic.config.get("cleanup.policy") == "compact":
        detail = f"{shape}, cleanup.policy=compact: records without a key are refused, of each key the last stays"
        return warning("topic", detail, f"send with a key, or {configs} cleanup.policy=delete")
    largest = int(topic.config.get("max.message.bytes", settings.max_record_bytes))
    if largest < settings.max_record_bytes:
        detail = f"{shape}, max.message.bytes={largest}: larger records are accepted here and refused there"
        return warning("topic", detail, f"set RECADO_MAX_RECORD_BYTES to {largest} or less")
    return ok("topic", f"{shape}, min.insync.replicas={needed}")


def judge_group(group: Group, lags: Sequence[GroupLag]) -> Finding:
    """Whether somebody handles what is there."""
    if group.state == "dead" and not lags:
        return ok("group", f"{group.name} does not exist yet; its first worker makes it")
    lag = sum(lag.lag or 0 for lag in lags)
    members = len(group.members)
    detail = f"{group.name} is {group.state}, with {_count(members, 'member')} and a lag of {_count(lag, 'record')}"
    if lag and not members:
        return warning("group", detail, "start a worker: recado worker module:worker")
    idle = sum(not member.partitions for member in group.members)
    if idle and group.state == "stable":
        detail = f"{detail}; {_count(idle, 'member')} without a partition"
        return warning("group", detail, "run fewer workers, or give the topic more partitions")
    return ok("group", detail)


def _address(server: str) -> tuple[str, int]:
    """Host and port of ``[protocol://]host[:port]``; an IPv6 address is in brackets."""
    text = server.strip().rpartition("://")[2]
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text.strip("[]"), PORT
    return host.strip("[]"), int(port)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _numbers(partitions: Sequence[int]) -> str:
    return f"partition{'' if len(partitions) == 1 else 's'} " + ", ".join(map(str, partitions))
