"""Settings for commands that look at Kafka once: errors are theirs to tell, so logs stay quiet unless asked for."""

from __future__ import annotations

from recado.cli.options import load_settings
from recado.settings import Settings
from recado.telemetry import logs

__all__ = ["settings_to_look"]


def settings_to_look() -> Settings:
    """The settings of this run, with logs on stderr: at ``log_level`` where that was set, else hardly any."""
    source = load_settings()
    settings = source.settings
    level = settings.log_level if "log_level" in source.origins else "critical"
    logs.set_up(format=settings.log_format, level=level)
    return settings
