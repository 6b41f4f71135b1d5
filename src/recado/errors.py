"""Every error that recado raises on purpose: one tree, and each docstring says what to do."""

from __future__ import annotations

__all__ = [
    "Backpressure",
    "ConfigurationError",
    "DeliveryFailed",
    "DeliveryUnknown",
    "EmbeddedKafkaError",
    "HandlerError",
    "KafkaUnreachable",
    "NoProcess",
    "NotAllowed",
    "RecadoError",
    "RecordTooLarge",
    "RedriveRunning",
    "SpoolFailed",
    "SpoolFull",
    "TakenOver",
    "TortureBroken",
    "Undecodable",
    "UnknownLetter",
    "UnknownRedrive",
    "UnknownTopic",
]


class RecadoError(Exception):
    """The root of the tree; its message is written for a person: what failed, where, what to do next."""

    #: Stable, machine-readable name of the problem (RFC 9457 extension member ``code``).
    code = "error"


class ConfigurationError(RecadoError):
    """A setting or an option is wrong. The message names the key and what it may be."""

    code = "configuration"


class EmbeddedKafkaError(RecadoError):
    """The embedded Kafka could not be fetched, started or stopped. The message says which and the remedy."""

    code = "embedded-kafka"


class TortureBroken(RecadoError):
    """The torture itself could not go on, so there is no verdict. The message says what failed and where its log is."""

    code = "torture-broken"


class KafkaUnreachable(RecadoError):
    """No broker answers, so nothing was accepted. Check ``RECADO_BOOTSTRAP_SERVERS`` and send again."""

    code = "kafka-unreachable"


class TakenOver(RecadoError):
    """Another program does now what only one may do at a time; what this one had done is there."""

    code = "taken-over"


class RedriveRunning(RecadoError):
    """A redrive of the group runs in this program, and one at a time settles letters. Stop it, or wait for it."""

    code = "redrive-running"


class UnknownLetter(RecadoError):
    """No dead letter of the group is there, or it is settled already. ``recado dead-letters list`` lists them."""

    code = "unknown-letter"


class UnknownRedrive(RecadoError):
    """The group has no redrive of this id. ``GET /dead-letters/redrives`` lists them."""

    code = "unknown-redrive"


class UnknownTopic(RecadoError):
    """The topic does not exist. Create it with ``recado kafka topics --create --topic NAME``."""

    code = "unknown-topic"


class NotAllowed(RecadoError):
    """Kafka refuses this principal the topic, the group or the cluster: its ACLs decide."""

    code = "not-allowed"


class RecordTooLarge(RecadoError):
    """The record is larger than ``RECADO_MAX_RECORD_BYTES`` or the topic's ``max.message.bytes``."""

    code = "record-too-large"


class Backpressure(RecadoError):
    """Too much is in flight already, so nothing was accepted. Wait a moment and send again."""

    code = "backpressure"


class SpoolFull(RecadoError):
    """The spool's budget or its disk is full, so nothing was accepted. Kafka must come back, or the disk grow."""

    code = "spool-full"


class SpoolFailed(RecadoError):
    """The spool cannot be written, so nothing was accepted. The message says why; `recado spool list` looks closer."""

    code = "spool-failed"


class DeliveryFailed(RecadoError):
    """Kafka refused the record for good: it is not in the topic."""

    code = "delivery-failed"


class DeliveryUnknown(RecadoError):
    """Kafka did not confirm in time: the record may still arrive, or may not."""

    code = "delivery-unknown"


class HandlerError(ConfigurationError):
    """A handler is declared wrongly: its topics, signature or options. The message names it."""

    code = "handler"


class HandlerTimeout(RecadoError, TimeoutError):
    """A handler ran longer than its ``timeout_s``: the attempt failed."""

    code = "handler-timeout"


class HandlerFailed(RecadoError):
    """A handler's process ended in the middle of a record, or raised what cannot leave it."""

    code = "handler-failed"


class NoProcess(RecadoError):
    """There is no process to make a call in, so nothing was called. Start the program again."""

    code = "no-process"


class Undecodable(RecadoError):
    """A record's value does not fit the type that the handler asks for."""

    code = "undecodable"
