"""`recado dead-letters redrives`: every redrive of a group, and what became of its letters."""

from __future__ import annotations

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.moments import moment
from recado.cli.options import settings_options
from recado.cli.table import show
from recado.outcomes.settled import Job
from recado.tracking.look import Look

__all__ = ["redrives"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@settings_options(group="Whose redrives.")
def redrives(as_json: bool) -> int:
    """List redrives, the newest first: who began it, how far it is, and what became of its letters.

    One that is `running` may also have been killed: --resume goes on with it, and whoever still runs it stops.

    \b
    Examples:
      recado dead-letters redrives
      recado dead-letters redrives --json | jq 'select(.state != "done")'
    """
    settings = settings_to_look()
    jobs = sorted(Look(settings).settled(settings.group).jobs.values(), key=lambda job: job.at, reverse=True)
    if as_json:
        for job in jobs:
            click.echo(msgspec.json.encode(job))
        return 0
    titles = ("began", "by", "state", "redriven", "done", "dead again", "asked", "id")
    show(titles, [_row(job) for job in jobs], empty=f"Group {settings.group} has none.")
    return 0


def _row(job: Job) -> tuple[str, ...]:
    asked = ", ".join(f"{name} {_shown(name, value)}" for name, value in job.asked.items()) or "all"
    known = job.succeeded or job.dead_again or not job.redriven
    fates = (f"{job.succeeded:,}", f"{job.dead_again:,}") if known else ("not followed", "")
    return moment(job.at), job.by, job.state, f"{job.redriven:,}", *fates, asked[:100], job.id


def _shown(name: str, value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return moment(value) if name in ("since", "until") and isinstance(value, int) else str(value)
