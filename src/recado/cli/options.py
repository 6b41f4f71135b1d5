"""Options that several commands share, and the settings that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from recado.kafka.properties import check_properties
from recado.settings import Settings, SettingsSource, from_process
from recado.telemetry import logs

__all__ = ["current_settings", "load_settings", "settings_options"]

F = TypeVar("F", bound=Callable[..., Any])

#: Every command takes these; each is also a setting, by the same name.
_OPTIONS = {
    "bootstrap_servers": "Kafka brokers to ask first, host:port separated by commas.",
    "data_dir": "Folder for what recado keeps on this machine.",
    "log_level": "debug, info, warning or error.",
}


def settings_options(**more: str) -> Callable[[F], F]:
    """Give a command ``--config`` and an option for each setting that it shares or names."""

    def decorate(command: F) -> F:
        for name, text in reversed({**more, **_OPTIONS}.items()):
            flag = "--" + name.replace("_", "-")
            command = click.option(
                flag, name, default=None, metavar="VALUE", help=text, expose_value=False, callback=_keep
            )(command)
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_keep,
            help="A recado.toml elsewhere.",
        )(command)

    return decorate


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and parameter.name is not None:
        context.meta.setdefault("recado.options", {})[parameter.name] = value


def load_settings() -> SettingsSource:
    """The settings of this run, command line included. Raises ConfigurationError."""
    options = dict(click.get_current_context().meta.get("recado.options", {}))
    source = from_process(options, options.pop("config", None))
    check_properties(source)
    return source


def current_settings(*, logging: bool = False) -> Settings:
    """The settings of this run; with ``logging`` recado's logs are set up by them."""
    settings = load_settings().settings
    if logging:
        logs.set_up(format=settings.log_format, level=settings.log_level)
    return settings
