"""`recado settings`: what is set, what each is for, and where it came from."""

from __future__ import annotations

import sys

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recado.cli.options import load_settings, settings_options
from recado.cli.printable import printable
from recado.cli.table import show
from recado.settings import description, environment_name

__all__ = ["settings"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
@settings_options()
def settings(as_json: bool) -> int:
    """Show every setting with its value and where it came from; secrets are masked.

    The command line wins over the environment, that over recado.toml, that over the default. Any property of
    librdkafka passes through: RECADO_KAFKA_SECURITY_PROTOCOL=SASL_SSL, or in recado.toml

    \b
      port = 5050
      [kafka]
      "security.protocol" = "SASL_SSL"
      [kafka.producer]
      "compression.type" = "zstd"

    \b
    Examples:
      recado settings
      RECADO_PORT=5050 recado settings
      recado settings --json | jq -r '.[] | select(.origin != "default").setting'
    """
    found = [
        {
            "setting": name,
            "value": value,
            "origin": origin,
            "environment": environment_name(name),
            "description": description(name),
        }
        for name, value, origin in load_settings().rows()
    ]
    if as_json:
        click.echo(msgspec.json.encode(found))
        return 0
    if sys.stdout.isatty():
        Console().print(_table(found))
        return 0
    titles = ("setting", "value", "origin", "environment", "description")
    show(titles, [[row[title] for title in titles] for row in found], empty="")
    return 0


def _table(found: list[dict[str, str]]) -> Table:
    """Two lines for each setting, so that its long names fit beside what it is for."""
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    table.add_column("description")
    for row in found:
        name = Text.assemble(printable(row["setting"]), "\n", (printable(row["environment"]), "dim"))
        origin = "environment" if row["origin"] == row["environment"] else row["origin"]
        style = "" if origin == "default" else "bold"
        table.add_row(name, Text(printable(row["value"]), style), Text(origin, style), Text(row["description"]))
    return table
