"""`recado dead-letters redrives`: every redrive of a group, and what became of its letters."""

from __future__ import annotations

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.moments import moment
from recado.cli.options import settings_options
from recado.cli.table import show
from recado.letters.follow import Fates, brought_back, fates
from recado.outcomes.settled import Job
from recado.tracking.look import Look

__all__ = ["redrives"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@settings_options(group="Whose redrives.")
def redrives(as_json: bool) -> int:
    """List redrives, the newest first: who began it, how far it is, and what became of its letters.

    They are counted now. `not followed`: nobody waited for their end, and since another redrive has begun nobody knows
    any more which they were. One that is `running` may also have been killed: --resume goes on with it, and whoever
    still runs it stops.

    \b
    Examples:
      recado dead-letters redrives
      recado dead-letters redrives --json | jq 'select(.state != "done")'
    """
    settings = settings_to_look()
    look = Look(settings)
    jobs = sorted(look.settled(settings.group).jobs.values(), key=lambda job: job.at, reverse=True)
    counted = [(job, _fates(look, settings.group, job)) for job in jobs]
    if as_json:
        for job, now in counted:
            told = {"succeeded": now.done, "dead_again": now.dead_again, "waiting": now.waiting} if now else {}
            click.echo(msgspec.json.encode({**msgspec.to_builtins(job), "waiting": None, **told}))
        return 0
    titles = ("began", "by", "state", "redriven", "done", "dead again", "waiting", "asked", "id")
    show(titles, [_row(job, now) for job, now in counted], empty=f"Group {settings.group} has none.")
    return 0


def _fates(look: Look, group: str, job: Job) -> Fates | None:
    """What became of its letters by now; None where it was not followed, and nobody can any more."""
    redriven = brought_back(look, group, job)
    if len(redriven):
        return fates(look, group, redriven, job.ends)
    known = job.succeeded or job.dead_again or not job.redriven
    return Fates(job.succeeded, job.dead_again, 0) if known else None


def _row(job: Job, now: Fates | None) -> tuple[str, ...]:
    asked = ", ".join(f"{name} {_shown(name, value)}" for name, value in job.asked.items()) or "all"
    counts = ("not followed", "", "") if now is None else (f"{number:,}" for number in now)
    return moment(job.at), job.by, job.state, f"{job.redriven:,}", *counts, asked[:100], job.id


def _shown(name: str, value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return moment(value) if name in ("since", "until") and isinstance(value, int) else str(value)
