"""librdkafka properties: recado's defaults, then what the user passes through."""

from __future__ import annotations

from typing import Any

from recado.settings import Settings

__all__ = [
    "OF_A_MEMBER",
    "client_config",
    "consumer_config",
    "copying_config",
    "patient_config",
    "producer_config",
    "transactional_config",
]

#: A client that knows no broker any more asks the bootstrap servers again after so long. A lone broker that comes back
#: from a pause answers for a moment that there are no brokers, and a client that hears it was measured to wait for
#: librdkafka's default, five minutes, while others went on.
REBOOTSTRAP_MS = 2_000

#: A producer's queue holds at most so much: a stated budget, whatever the request rate.
PRODUCER_QUEUE_KBYTES = 131_072

#: Ditto in records; Kafka's own bound is the bytes above, this one only keeps tiny records honest.
PRODUCER_QUEUE_RECORDS = 1_000_000

#: How long a record that comes from the disk waits for company, in milliseconds: somebody may still wait for it.
PATIENT_LINGER_MS = 10

#: The broker aborts a transaction whose producer is silent for so long, in milliseconds: until then nobody else goes on
#: with its partitions, nor reads what stands behind it. Kafka's default is a minute.
TRANSACTION_TIMEOUT_MS = 15_000

#: How long a transaction's records wait for company, in milliseconds: its end waits for them.
TRANSACTION_LINGER_MS = 2

#: What a record may weigh beyond ``RECADO_MAX_RECORD_BYTES`` in librdkafka's eyes (batch and record framing).
FRAMING_BYTES = 65_536

#: The largest copy of a record that Kafka took from anybody: no broker takes a larger request by default
#: (``socket.request.max.bytes``), and what a topic takes is for the topic to say.
COPY_BYTES = 104_857_600

#: librdkafka's own bound of a batch of several records, which ``message.max.bytes`` lowers where it is smaller.
BATCH_BYTES = 1_000_000

#: Records that librdkafka fetches ahead per partition; its default of 100,000 would be our memory.
FETCH_AHEAD_RECORDS = 20_000

#: Bytes that a consumer fetches ahead, all partitions together.
FETCH_AHEAD_KBYTES = 16_384

#: A member that was killed gives its partitions to others after so long. librdkafka's 45 s is for clients whose
#: heartbeats wait for their work; ours come from a thread that does nothing else.
SESSION_TIMEOUT_MS = 10_000

#: Bytes that one fetch asks of a partition. librdkafka's 1 MB (compressed) doubles the memory and reads no faster;
#: a batch that is larger comes whole all the same.
FETCH_PARTITION_BYTES = 262_144

#: How soon a topic that a pattern matches is noticed; librdkafka's 5 minutes are long for who has just created one.
#: It costs a request each time.
METADATA_REFRESH_MS = 10_000


def client_config(settings: Settings) -> dict[str, Any]:
    """Properties that every client shares, the user's ``[kafka]`` on top."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "recado",
        # After an outage the first second counts; the default backs off to ten.
        "reconnect.backoff.max.ms": 1000,
        "metadata.recovery.rebootstrap.trigger.ms": REBOOTSTRAP_MS,
        "socket.keepalive.enable": True,
        **settings.kafka,
    }


#: What a user says of a worker's membership: not for clients that are no member of that group.
OF_A_MEMBER = {"group.instance.id", "group.protocol", "group.remote.assignor"}


def producer_config(settings: Settings) -> dict[str, Any]:
    """Properties of the gateway's producer: acks=all, idempotent, lz4, retried until delivery.timeout.ms."""
    return {
        **client_config(settings),
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        # For lone records; under load another client lingers (kafka/two_speed.py), so nobody waits alone.
        "linger.ms": 0,
        "message.max.bytes": settings.max_record_bytes + FRAMING_BYTES,
        "queue.buffering.max.messages": PRODUCER_QUEUE_RECORDS,
        "queue.buffering.max.kbytes": PRODUCER_QUEUE_KBYTES,
        **settings.kafka,
        **settings.kafka_producer,
    }


def copying_config(settings: Settings) -> dict[str, Any]:
    """Properties of a producer that copies what others sent, however large: only Kafka refuses a copy."""
    record_bytes = settings.max_record_bytes + FRAMING_BYTES
    return {
        **producer_config(settings),
        "message.max.bytes": max(record_bytes, COPY_BYTES),
        "batch.size": min(record_bytes, BATCH_BYTES),
        **settings.kafka,
        **settings.kafka_producer,
    }


def patient_config(settings: Settings) -> dict[str, Any]:
    """Properties of a producer for records that are safe on disk: it gathers, and tries until Kafka answers."""
    config = copying_config(settings)
    for name in ("delivery.timeout.ms", "message.timeout.ms", "queue.buffering.max.ms"):
        config.pop(name, None)
    return {**config, "message.timeout.ms": 0, "linger.ms": PATIENT_LINGER_MS}


def transactional_config(settings: Settings, transactional_id: str) -> dict[str, Any]:
    """Properties of a producer of transactions, which time out before another member waits long for them."""
    config = copying_config(settings)
    timeout_ms = config.pop("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
    for name in ("delivery.timeout.ms", "message.timeout.ms", "queue.buffering.max.ms"):
        config.pop(name, None)  # a record may not outlive its transaction, and librdkafka sees to that by itself
    return {
        **config,
        "transactional.id": transactional_id,
        "transaction.timeout.ms": timeout_ms,
        "linger.ms": TRANSACTION_LINGER_MS,
    }


def consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    """Properties of a worker's consumer: read_committed, earliest for a new group, commits only by hand."""
    return {
        **client_config(settings),
        **_membership(settings),
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
        "queued.min.messages": FETCH_AHEAD_RECORDS,
        "queued.max.messages.kbytes": FETCH_AHEAD_KBYTES,
        "fetch.message.max.bytes": FETCH_PARTITION_BYTES,
        # After filling its queue the fetcher would otherwise sleep a whole second.
        "fetch.queue.backoff.ms": 10,
        **settings.kafka,
        **settings.kafka_consumer,
        # Not the user's to change: offsets move only after an outcome (G2), and the end of a partition is
        # how a tail of transaction markers is told from records.
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
    }


def _membership(settings: Settings) -> dict[str, Any]:
    """What a member itself says of its membership. With KIP-848 (``group.protocol=consumer``) the broker does."""
    if {**settings.kafka, **settings.kafka_consumer}.get("group.protocol", "classic").lower() == "consumer":
        return {}
    return {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": SESSION_TIMEOUT_MS}
