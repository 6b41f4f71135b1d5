"""`recado settings`: what is set, and from where."""

from __future__ import annotations

import click
import msgspec

from recado.cli.options import load_settings, settings_options
from recado.cli.table import show
from recado.settings import environment_name

__all__ = ["settings"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@settings_options()
def settings(as_json: bool) -> int:
    r"""Show every setting with its value and where it came from; secrets are masked.

    Command line wins over environment, environment over recado.toml, that over the default.

    \b
    Examples:
      recado settings
      RECADO_PORT=5050 recado settings --json
    """
    source = load_settings()
    rows = [(name, environment_name(name.replace(".", "_")), value, origin) for name, value, origin in source.rows()]
    if as_json:
        keys = ("name", "environment", "value", "origin")
        click.echo(msgspec.json.encode([dict(zip(keys, row, strict=True)) for row in rows]).decode())
        return 0
    show(("setting", "environment", "value", "from"), rows, empty="")
    return 0
