"""librdkafka's properties: which it knows, and what a mistyped one may have been."""

from __future__ import annotations

import difflib
from importlib.resources import files

from confluent_kafka import KafkaException, Producer

from recado.errors import ConfigurationError
from recado.settings import KAFKA_PREFIX, SettingsSource

__all__ = ["NAMES", "check_properties", "nearest_property"]

#: Every property of librdkafka, for suggestions only: whether one is valid is librdkafka's own to say.
NAMES = frozenset(files("recado.kafka").joinpath("properties.txt").read_text("ascii").split())

#: Follows a property that is tried: librdkafka refuses this one for certain, so that no client is ever made.
END = "recado.end"


def check_properties(source: SettingsSource) -> None:
    """Ask librdkafka about each property in the settings, without making a client.

    Raises ConfigurationError for the first that it does not know or whose value it refuses; says where it was set.
    """
    settings = source.settings
    tables = (("kafka", settings.kafka), ("kafka.producer", settings.kafka_producer))
    for table, properties in (*tables, ("kafka.consumer", settings.kafka_consumer)):
        for key, value in properties.items():
            if refusal := _refusal(key, value):
                raise ConfigurationError(_sentence(source.origins.get(f"{table}.{key}", table), table, key, refusal))


def nearest_property(key: str) -> str:
    """The property that a mistyped one may have been; empty when none is near."""
    return next(iter(difflib.get_close_matches(key, sorted(NAMES), n=1, cutoff=0.7)), "")


def _refusal(key: str, value: str) -> str:
    """What librdkafka has against this property; empty when nothing."""
    try:
        Producer({key: value, END: ""})
    except KafkaException as error:
        text = str(error.args[0].str()).strip()
        return "" if END in text else text
    except (TypeError, ValueError, AttributeError):  # one that confluent_kafka takes for itself, such as a callback
        return f'"{key}" cannot be set to a text'
    raise AssertionError(f"librdkafka took {END} for a property of its own")


def _sentence(origin: str, table: str, key: str, refusal: str) -> str:
    if "No such configuration property" not in refusal:
        return f"{origin}: {refusal}."
    head, _, rest = key.partition(".")
    side = next(iter(difflib.get_close_matches(head, ["producer", "consumer"], n=1, cutoff=0.7)), "")
    in_environment = origin.startswith(KAFKA_PREFIX)
    if table == "kafka" and rest and side:
        meant = f"{side}.{nearest_property(rest) or rest}" if in_environment else f"[kafka.{side}]"
    else:
        inner = table.removeprefix("kafka").lstrip(".")
        meant = nearest_property(key)
        meant = f"{inner}.{meant}" if meant and inner and in_environment else meant
    if meant and in_environment:
        meant = KAFKA_PREFIX + meant.upper().replace(".", "_")
    hint = f"Did you mean {meant}?" if meant else "librdkafka's CONFIGURATION.md lists them all."
    return f"{origin}: librdkafka knows no property {key!r}. {hint}"
