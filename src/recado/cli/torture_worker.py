"""`recado torture worker`: faults under load for the user's own handlers, and a verdict."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import click

from recado.cli.journaled import journaled
from recado.cli.loading import load_object
from recado.cli.options import current_settings, load_settings, settings_options
from recado.cli.verdict import FAILED, SECONDS, show_checks, show_verdict, watching
from recado.errors import ConfigurationError
from recado.torture import make_plan
from recado.torture.worker import FAULTS, Journal, Report, Terms, run
from recado.torture.worker.stage import Membership
from recado.worker import Worker

__all__ = ["member", "worker"]

#: The handlers where no other are named.
TROUBLE = "recado.trouble:worker"

#: The topic of handlers that name none.
TOPIC = "torture"

_KINDS = "\n".join(f"  {kind.name:<17} {kind.says}" for kind in FAULTS.values())


@click.command(
    help=f"""Torture a worker: faults under load, then every call of a handler is held against Kafka.

    MODULE:WORKER is yours, such as shop.jobs:worker or jobs.py; without it handlers run that are slow and fail.
    Kafka's own VerifiableProducer feeds its topics. A line is written before and after each call. At the end Kafka's
    own tools say what was committed when, and each promise is judged: nothing is lost, nothing is committed before
    it is done, a key's records come one at a time and in order, what is done is handled again only after a crash.

    Your handlers really run: give them a database that may be filled with nonsense.

    Exit code 0 when every promise held, 1 when one was broken. The seed repeats the plan.

    \b
    Faults:
{_KINDS}

    \b
    Examples:
      recado torture worker
      recado torture worker shop.jobs:worker --minutes 10
      recado torture worker --seconds 60 --faults kill-worker,stop-worker --protocol consumer
    """
)
@click.argument("target", metavar="[MODULE:WORKER]", default=TROUBLE)
@click.option("--minutes", type=click.FloatRange(min=0.1), metavar="N", help="How long to strike.  [default: 2]")
@click.option("--seconds", type=click.FloatRange(min=5), metavar="N", help="The same in seconds.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Repeats a plan.  [default: any]")
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Brokers of its Kafka.")
@click.option("--workers", type=click.IntRange(1, 8), default=2, show_default=True, help="Worker processes.")
@click.option("--protocol", type=click.Choice(["classic", "consumer"]), help="Of the group.  [default: by the seed]")
@click.option("--static/--dynamic", "is_static", default=None, help="Static members or not.  [default: by the seed]")
@click.option("--faults", "kinds", metavar="A,B,C", default="", help="Faults to choose from.  [default: all that fit]")
@click.option("--rate", type=click.FloatRange(1, 5000), default=300, show_default=True, help="Records a second.")
@click.option("--keep", is_flag=True, help="Keep Kafka's data; it stays anyhow when a promise broke.")
@click.option("--json", "as_json", is_flag=True, help="Write the verdict as one JSON object.")
def worker(
    target: str,
    minutes: float | None,
    seconds: float | None,
    seed: int | None,
    brokers: str,
    workers: int,
    protocol: str | None,
    is_static: bool | None,
    kinds: str,
    rate: float,
    keep: bool,
    as_json: bool,
) -> int:
    """Parse, run, show."""
    if minutes is not None and seconds is not None:
        raise click.UsageError("--minutes and --seconds say the same: give one of them.")
    settings = load_settings().settings
    plan = make_plan(
        seed=random.SystemRandom().randrange(1_000_000) if seed is None else seed,
        seconds=seconds or (minutes * 60 if minutes else SECONDS),
        brokers=int(brokers),
        workers=workers,
        kinds=[name.strip() for name in kinds.split(",") if name.strip()],
        known=FAULTS,
    )
    if not plan.faults:
        raise click.UsageError(f"No fault is left to strike: {'; '.join(plan.left_out)}.")
    mine = load_object(target, Worker, "worker")
    topics = mine.handlers.subscription(TOPIC)
    if patterns := [topic for topic in topics if topic.startswith("^")]:
        raise ConfigurationError(f"{target}: the pattern {patterns[0]!r} names no topic that could be fed.")
    chance = random.Random(plan.seed)  # noqa: S311 - to be repeated
    known = ["classic"] if settings.kafka_version.startswith("3.") else ["classic", "consumer"]  # a preview in 3.9
    drawn = Membership(chance.choice(known), chance.random() < 0.25)
    membership = Membership(protocol or drawn.protocol, drawn.is_static if is_static is None else is_static)
    terms = Terms(
        folder=Path(tempfile.mkdtemp(prefix="recado-torture-")),
        environment=os.environ,
        kafka_version=settings.kafka_version,
        target=target,
        group=mine.group or "torture",
        topics=topics,
        kept=frozenset(
            topic for topic in topics if (one := mine.handlers.find(topic, TOPIC)) is not None and one.parks
        ),
        membership=membership,
        rate=rate,
        keep=keep,
    )
    members = "static" if membership.is_static else "dynamic"
    with watching(plan, terms.folder, f"{membership.protocol} group protocol, {members} members, ") as watch:
        report = run(plan, terms, watch)
    if as_json:
        click.echo(report.as_json())
    else:
        _show(report)
    return 0 if report.judgement.passed else FAILED


@click.command(hidden=True)
@click.argument("target")
@click.argument("journal", type=click.Path(path_type=Path))
@settings_options()
def member(target: str, journal: Path) -> int:
    """Run a worker whose calls are written into a file: one process of a torture."""
    mine = load_object(target, Worker, "worker")
    written = Journal(journal)
    mine.handlers.all[:] = [journaled(handler, written) for handler in mine.handlers.all]
    mine.run(settings=current_settings())
    return 0


def _show(report: Report) -> None:
    """The verdict for a person: a line for each promise, the cases of the broken ones, and the figures."""
    show_checks(report.judgement.checks)
    click.echo(", ".join(f"{name.replace('_', ' ')} {count:,.0f}" for name, count in report.judgement.figures.items()))
    click.echo(f"Journals and logs: {report.folder}")
    show_verdict(report.plan, passed=report.judgement.passed, took_s=report.took_s)
