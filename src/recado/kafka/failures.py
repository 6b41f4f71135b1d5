"""From librdkafka's error codes to recado's errors: one table."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from recado.errors import (
    ConfigurationError,
    DeliveryFailed,
    DeliveryUnknown,
    KafkaUnreachable,
    NotAllowed,
    RecadoError,
    RecordTooLarge,
    UnknownTopic,
)
from recado.kafka.properties import nearest_property

__all__ = ["client_failure", "delivery_failure", "is_unreachable"]

_UNREACHABLE = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._SSL,
}

_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}

_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}

#: The record is in nobody's log, for certain: the broker checked it and said no.
_REFUSED = {
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_MSG,
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    KafkaError.POLICY_VIOLATION,
    KafkaError._UNKNOWN_PARTITION,
}


def is_unreachable(error: KafkaError) -> bool:
    """Tell whether an error says that no broker answers."""
    return error.code() in _UNREACHABLE


def delivery_failure(topic: str, error: KafkaError) -> RecadoError:
    """What a delivery report's error means for the record. When in doubt, unknown: it may still be there."""
    code, text = error.code(), f"topic {topic}: {error.str()}"
    if code in _NO_TOPIC:
        return UnknownTopic(f"{text}. Create it with: recado kafka topics --create --topic {topic}")
    if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
        return RecordTooLarge(f"{text}. The topic's max.message.bytes is smaller than this record.")
    if code in _DENIED:
        return NotAllowed(f"{text}. Grant this principal Write on the topic.")
    if code in _REFUSED:
        return DeliveryFailed(f"{text}. The record was refused and is not in the topic.")
    return DeliveryUnknown(f"{text}. The record may or may not be in the topic.")


def client_failure(error: KafkaException | KafkaError, doing: str) -> RecadoError:
    """What an error outside a delivery report means, while ``doing`` something named for a person."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    code = cause.code()
    if code == KafkaError._INVALID_ARG:
        return ConfigurationError(f"{doing}: {cause.str()}{_suggestion(cause.str())}")
    if code in _NO_TOPIC:
        return UnknownTopic(f"{doing}: {cause.str()}")
    if code in _DENIED:
        return NotAllowed(f"{doing}: {cause.str()}")
    if code in _UNREACHABLE:
        return KafkaUnreachable(f"{doing}: {cause.str()}. Is Kafka running? `recado doctor` looks closer.")
    return RecadoError(f"{doing}: {cause.str()} ({cause.name()})")


def _suggestion(text: str) -> str:
    """What a property that librdkafka does not know may have been, for programs that made a client without asking."""
    _, found, rest = text.partition('No such configuration property: "')
    meant = nearest_property(rest.rstrip('"')) if found else ""
    return f". Did you mean {meant}?" if meant else ""
