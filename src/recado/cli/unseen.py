"""Numbers to which partitions belong that nobody can ask now: they are at least so large."""

from __future__ import annotations

import click

__all__ = ["count", "say_unseen"]


def count(known: int, *, unseen: int) -> str:
    """A number for a table."""
    return f"{known:,}" if not unseen else f"at least {known:,}"


def say_unseen(partitions: int, what: str) -> None:
    """Say on stderr that the records (or the lag) of so many partitions are not known, if there are any."""
    if partitions:
        are = "partition has no leader now, or is" if partitions == 1 else "partitions have no leader now, or are"
        click.echo(
            f"{partitions:,} {are} gone: {what} there cannot be counted. `recado doctor` looks closer.", err=True
        )
