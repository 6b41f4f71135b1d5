"""Tables for a person: columns on a terminal, tab-separated lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recado.cli.printable import printable

__all__ = ["show"]


def show(titles: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows under their titles, or the sentence ``empty`` (to stderr) when there are none.

    Cells are plain text: no markup is read in them, and control characters are escaped.
    """
    if not rows:
        click.echo(empty, err=True)
        return
    if not sys.stdout.isatty():
        for row in (titles, *rows):
            click.echo("\t".join(map(printable, row)))
        return
    table = Table(box=SIMPLE_HEAD)
    for column, title in enumerate(titles):
        numbers = all(row[column].replace(",", "").isdigit() or row[column] == "-" for row in rows)
        table.add_column(title, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)
