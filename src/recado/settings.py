"""Settings: read once, each with its value and where it came from (command line, environment, file, default)."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec

from recado.errors import ConfigurationError

__all__ = [
    "CONFIG_FILE",
    "KAFKA_PREFIX",
    "Settings",
    "SettingsSource",
    "description",
    "environment_name",
    "from_process",
    "is_group_name",
    "is_topic_name",
    "load",
]

#: Read from the working directory when no ``--config`` names another file.
CONFIG_FILE = "recado.toml"

#: Every setting of recado's own in the environment starts so.
PREFIX = "RECADO_"

#: Any librdkafka property in the environment starts so; underscores stand for dots.
KAFKA_PREFIX = "RECADO_KAFKA_"

#: Words in a property's name that mean its value must never be printed.
SECRET_WORDS = ("password", "passphrase", "secret", "key.pem", "jaas", "token", "private", "oauthbearer.config")

_TRUE = {"on", "true", "yes", "1"}
_FALSE = {"off", "false", "no", "0"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of recado, checked. The texts are what ``recado settings`` prints of each."""

    bootstrap_servers: Annotated[str, "Kafka brokers to ask first, host:port separated by commas."] = "localhost:9092"
    host: Annotated[str, "Address the gateway listens on."] = "127.0.0.1"
    port: Annotated[int, "Port the gateway listens on."] = 5000
    topic: Annotated[str, "Topic of a record that names none; the worker's example topic."] = "flask-topic"
    group: Annotated[str, "Consumer group of worker.py."] = "flask-consumer-group"
    data_dir: Annotated[Path, "Folder for what recado keeps on this machine."] = Path(".recado")
    wait_s: Annotated[float, "Longest wait for the broker's confirmation before an answer, in seconds."] = 5.0
    spool: Annotated[
        bool, "Keep accepted records on this machine's disk until Kafka has them: off means 503 and 504 instead of 202."
    ] = True
    spool_max_bytes: Annotated[int, "Most bytes of records in the spool; beyond that 503."] = 1_073_741_824
    max_record_bytes: Annotated[int, "Largest record value, in bytes (key and headers are counted too)."] = 1_048_576
    max_body_bytes: Annotated[int, "Largest request body, in bytes, also after decompression."] = 33_554_432
    max_in_flight_bytes: Annotated[int, "Most bytes that all requests under way may hold; beyond that 429."] = (
        268_435_456
    )
    drain_delay_s: Annotated[float, "After SIGTERM, how long to go on taking requests while not ready, in seconds."] = (
        0.0
    )
    drain_s: Annotated[float, "Longest time that a shutdown may take to finish what is in flight, in seconds."] = 20.0
    dead_letters_api: Annotated[
        bool, "Serve /dead-letters: who reaches the gateway may read dead letters, redrive and discard them."
    ] = False
    worker_host: Annotated[str, "Address of the worker's own health and metrics port."] = "127.0.0.1"
    worker_port: Annotated[int, "The worker's health and metrics port; 0: any free one. Taken: the next one."] = 5001
    kafka_version: Annotated[str, "Version of the embedded Kafka: 4.3.1 or 3.9.1."] = "4.3.1"
    log_format: Annotated[str, "human or json lines; auto is human on a terminal, JSON elsewhere."] = "auto"
    log_level: Annotated[str, "Least level that is logged: debug, info, warning, error."] = "info"
    kafka: Annotated[dict[str, str], "librdkafka property for every client."] = {}
    kafka_producer: Annotated[dict[str, str], "librdkafka property for producers only; wins over kafka."] = {}
    kafka_consumer: Annotated[dict[str, str], "librdkafka property for consumers only; wins over kafka."] = {}


class SettingsSource(msgspec.Struct, frozen=True):
    """Loaded settings, and for each (dotted for Kafka properties) the place it came from."""

    settings: Settings
    origins: dict[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """(name, value for a person's eyes, origin) of every setting, secrets masked."""
        rows = []
        for name in _plain_names():
            value = getattr(self.settings, name)
            shown = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
            rows.append((name, shown, self.origins.get(name, "default")))
        for table in _KAFKA_TABLES:
            for key, value in sorted(getattr(self.settings, table).items()):
                name = f"{table.replace('_', '.')}.{key}"
                rows.append((name, "********" if is_secret(key) else value, self.origins.get(name, "default")))
        return rows


_KAFKA_TABLES = ("kafka", "kafka_producer", "kafka_consumer")


def _plain_names() -> list[str]:
    return [name for name in Settings.__struct_fields__ if name not in _KAFKA_TABLES]


def is_secret(key: str) -> bool:
    """Tell whether a librdkafka property's value must be masked."""
    return any(word in key.lower() for word in SECRET_WORDS)


def environment_name(name: str) -> str:
    """The environment variable of a setting (``wait_s`` → ``RECADO_WAIT_S``) or of a property as ``rows`` names it."""
    return PREFIX + name.upper().replace(".", "_")


def description(name: str) -> str:
    """What a setting, or a property as ``rows`` names it, is for: one line."""
    field = name if name in _plain_names() else next(t for t in reversed(_KAFKA_TABLES) if _is_in(t, name))
    text: str = get_type_hints(Settings, include_extras=True)[field].__metadata__[0]
    return text


def _is_in(table: str, name: str) -> bool:
    return name.startswith(table.replace("_", ".") + ".")


def load(
    *,
    command_line: Mapping[str, Any],
    environment: Mapping[str, str],
    directory: Path,
    config: Path | None = None,
) -> SettingsSource:
    """Merge command line > environment > file > default into checked settings.

    ``command_line`` holds only what was given there, by setting name. Raises ConfigurationError that names the
    key, what is wrong with it and, for an unknown key, the nearest valid one.
    """
    values: dict[str, Any] = {table: {} for table in _KAFKA_TABLES}
    origins: dict[str, str] = {}
    _merge_file(values, origins, _read_file(directory, config), str(config or CONFIG_FILE))
    _merge_environment(values, origins, environment)
    for name, value in command_line.items():
        values[name] = _converted(name, value, f"--{name.replace('_', '-')}")
        origins[name] = "command line"
    settings = msgspec.convert(values, Settings)
    _check(settings, origins)
    return SettingsSource(settings, origins)


def from_process(command_line: Mapping[str, Any] | None = None, config: Path | None = None) -> SettingsSource:
    """Load the settings of this process: its environment and working directory. The only reader of either."""
    return load(command_line=command_line or {}, environment=os.environ, directory=Path.cwd(), config=config)


def _read_file(directory: Path, config: Path | None) -> dict[str, Any]:
    path = config if config is not None else directory / CONFIG_FILE
    if config is None and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error


def _merge_file(values: dict[str, Any], origins: dict[str, str], table: dict[str, Any], origin: str) -> None:
    for key, value in table.items():
        if key == "kafka":
            _merge_kafka_file(values, origins, value, origin)
            continue
        name = key.lower()
        if name not in _plain_names():
            raise ConfigurationError(f"{origin}: unknown setting {key!r}. {_nearest(name, _plain_names())}")
        values[name] = _converted(name, value, f"{key!r} in {origin}")
        origins[name] = origin


def _merge_kafka_file(values: dict[str, Any], origins: dict[str, str], table: Any, origin: str) -> None:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{origin}: 'kafka' must be a table of librdkafka properties.")
    for key, value in table.items():
        if key in ("producer", "consumer") and isinstance(value, dict):
            for inner, setting in _flattened(value):
                values[f"kafka_{key}"][inner] = setting
                origins[f"kafka.{key}.{inner}"] = origin
            continue
        for inner, setting in _flattened({key: value}):
            values["kafka"][inner] = setting
            origins[f"kafka.{inner}"] = origin


def _flattened(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Unquoted TOML keys nest (``security.protocol = …``): join them with dots again."""
    pairs: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            pairs += _flattened(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + key, str(value).lower() if isinstance(value, bool) else str(value)))
    return pairs


def _merge_environment(values: dict[str, Any], origins: dict[str, str], environment: Mapping[str, str]) -> None:
    names = {environment_name(name): name for name in _plain_names()}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX):
            continue
        if variable in names:
            values[names[variable]] = _converted(names[variable], value, variable)
            origins[names[variable]] = variable
        elif variable.startswith(KAFKA_PREFIX) and len(variable) > len(KAFKA_PREFIX):
            table, key = _kafka_property(variable)
            values[table][key] = value
            origins[f"{table.replace('_', '.')}.{key}"] = variable
        else:
            raise ConfigurationError(f"unknown setting {variable}. {_nearest(variable, list(names))}")


def _kafka_property(variable: str) -> tuple[str, str]:
    key = variable[len(KAFKA_PREFIX) :].lower().replace("_", ".")
    for side in ("producer", "consumer"):
        if key.startswith(f"{side}."):
            return f"kafka_{side}", key[len(side) + 1 :]
    return "kafka", key


def _nearest(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {found[0]}?" if found else "`recado settings` lists them all."


def _converted(name: str, value: Any, where: str) -> Any:
    kind = get_type_hints(Settings)[name]
    if kind is Path:
        if not isinstance(value, str | Path) or not str(value):
            raise ConfigurationError(f"{where} is {value!r}; it must be a folder.")
        return Path(value)
    if kind is bool and isinstance(value, str):
        if value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise ConfigurationError(f"{where} is {value!r}; it must be on or off.")
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        wanted = {int: "a whole number", float: "a number", str: "text", bool: "on or off"}[kind]
        raise ConfigurationError(f"{where} is {value!r}; it must be {wanted}.") from error


def _check(settings: Settings, origins: Mapping[str, str]) -> None:
    for problem, name, remedy in _problems(settings):
        if problem:
            where = origins.get(name, name)
            value = getattr(settings, name)
            label = where if where.startswith(PREFIX) else f"{name} ({where})"
            raise ConfigurationError(f"{label} is {value!r}; it must be {remedy}.")


def _problems(settings: Settings) -> list[tuple[bool, str, str]]:
    return [
        (not _is_servers(settings.bootstrap_servers), "bootstrap_servers", "host:port, several separated by commas"),
        (not 0 <= settings.port <= 65535, "port", "between 0 and 65535"),
        (not 0 <= settings.worker_port <= 65535, "worker_port", "between 0 and 65535"),
        (not settings.host, "host", "an address such as 127.0.0.1"),
        (not settings.worker_host, "worker_host", "an address such as 127.0.0.1"),
        (not 0 < settings.wait_s <= 300, "wait_s", "above 0 and at most 300 seconds"),
        (not 1 <= settings.spool_max_bytes <= MOST_BYTES, "spool_max_bytes", f"between 1 and {MOST_BYTES}"),
        (not 1 <= settings.max_record_bytes <= 1_000_000_000, "max_record_bytes", "between 1 and 1000000000"),
        (not 1 <= settings.max_body_bytes <= MOST_BYTES, "max_body_bytes", f"between 1 and {MOST_BYTES}"),
        (not 1 <= settings.max_in_flight_bytes <= MOST_BYTES, "max_in_flight_bytes", f"between 1 and {MOST_BYTES}"),
        (not 0 <= settings.drain_delay_s <= 3600, "drain_delay_s", "between 0 and 3600 seconds"),
        (not 0 < settings.drain_s <= 3600, "drain_s", "above 0 and at most 3600 seconds"),
        (settings.kafka_version not in ("4.3.1", "3.9.1"), "kafka_version", "4.3.1 or 3.9.1"),
        (settings.log_format not in ("auto", "human", "json"), "log_format", "auto, human or json"),
        (settings.log_level not in ("debug", "info", "warning", "error"), "log_level", "debug, info, warning or error"),
        (not is_topic_name(settings.topic), "topic", TOPIC_RULE),
        (not is_group_name(settings.group), "group", GROUP_RULE),
    ]


#: What files and C code can count.
MOST_BYTES = 2**63 - 1

#: Kafka takes more, but such a name can neither be typed nor read.
GROUP_RULE = "a name of printable characters, not only spaces"

#: Kafka's own rule (org.apache.kafka.common.internals.Topic).
TOPIC_RULE = "1 to 249 of a-z A-Z 0-9 . _ - and neither . nor .."

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")
_SERVER = re.compile(r"(?:[A-Za-z]+://)?(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?\Z")


@lru_cache(maxsize=1024)
def is_topic_name(name: str) -> bool:
    """Tell whether Kafka allows a topic of this name."""
    return _TOPIC_NAME.match(name) is not None and name not in (".", "..")


def is_group_name(name: str) -> bool:
    """Tell whether a consumer group may have this name."""
    return name.isprintable() and not name.isspace() and name != ""


def _is_servers(text: str) -> bool:
    matches = [_SERVER.match(server.strip()) for server in text.split(",")]
    return all(match and int(match.group(1) or 1) in range(1, 65536) for match in matches)
