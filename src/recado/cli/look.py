"""Settings for commands that look at Kafka once: errors are theirs to tell, so logs stay quiet unless asked for."""

from __future__ import annotations

import logging

from recado.cli.options import load_settings
from recado.errors import ConfigurationError
from recado.settings import TOPIC_RULE, Settings, is_topic_name
from recado.telemetry import logs

__all__ = ["checked_topic", "settings_to_look"]


def checked_topic(name: str) -> str:
    """The name of a topic, if Kafka allows it. Raises ConfigurationError."""
    if not is_topic_name(name):
        raise ConfigurationError(f"illegal topic name {name[:300]!r}: it must be {TOPIC_RULE}")
    return name


def settings_to_look() -> Settings:
    """The settings of this run, with logs on stderr: at ``log_level`` where that was set, else hardly any."""
    source = load_settings()
    settings = source.settings
    level = settings.log_level if "log_level" in source.origins else "critical"
    if level == "critical":  # librdkafka calls a producer that another one replaces so, and the command says it better
        logging.getLogger("librdkafka").setLevel(logging.CRITICAL + 1)
    logs.set_up(format=settings.log_format, level=level)
    return settings
