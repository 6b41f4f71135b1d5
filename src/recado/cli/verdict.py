"""What every torture shows a person: its plan, how far it is, and what held."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from recado.cli import table
from recado.cli.progress import KafkaProgress
from recado.cli.status_line import StatusLine
from recado.torture import Plan, Watch
from recado.torture.judge import Check

__all__ = ["FAILED", "SECONDS", "show_checks", "show_verdict", "watching"]

#: Exit code of a run in which a promise was broken.
FAILED = 1

#: Length of a run that names none, in seconds.
SECONDS = 120.0


@contextmanager
def watching(plan: Plan, folder: Path, how: str = "") -> Iterator[Watch]:
    """Say what will strike, and show a run while it lasts; SIGTERM unwinds it as Ctrl-C does (main thread)."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that nothing is left running
    click.echo(f"Seed {plan.seed}: {len(plan.faults)} faults in {plan.seconds:g} s, {how}all in {folder}", err=True)
    for fault in plan.faults:
        whom = f" {fault.target}" if fault.target else ""
        click.echo(f"  at {fault.at_s:6.1f} s  {fault.kind}{whom} for {fault.lasts_s:g} s", err=True)
    for reason in plan.left_out:
        click.echo(f"  left out: {reason}", err=True)
    with StatusLine() as line, KafkaProgress() as kafka:

        def say(text: str) -> None:
            line.clear()
            click.echo(text, err=True)

        try:
            yield Watch(say=say, tick=line.show, kafka=kafka)
        except BaseException:
            say(f"The run did not come to its end; what it wrote so far is in {folder}")
            raise


def show_checks(checks: Iterable[Check]) -> None:
    """A line for each promise, then the cases of the broken ones."""
    checks = list(checks)
    rows = [
        ("holds" if check.holds else "BROKEN", check.promise, f"{check.looked_at:,}", f"{check.broken:,}")
        for check in checks
    ]
    table.show(("", "promise", "looked at", "broken"), rows, empty="")
    for check in checks:
        for case in check.cases:
            click.echo(f"{check.name}: {case}")


def show_verdict(plan: Plan, *, passed: bool, took_s: float) -> None:
    """The last line."""
    click.echo(f"{'PASS' if passed else 'FAIL'} in {took_s:.0f} s; the same plan again: --seed {plan.seed}")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
