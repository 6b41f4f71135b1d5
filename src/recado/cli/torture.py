"""`recado torture`: faults under load on a Kafka of its own, and a verdict."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import click

from recado.cli import torture_worker
from recado.cli.options import load_settings
from recado.cli.verdict import FAILED, SECONDS, show_checks, show_verdict, watching
from recado.torture import FAULTS, Report, Terms, make_plan, run

__all__ = ["torture"]

_KINDS = "\n".join(f"      {kind.name:<16} {kind.says}" for kind in FAULTS.values())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def torture() -> None:
    """Kill, stop and restart everything under load, then look whether anything was lost.

    It starts a Kafka and gateways or workers of its own, on free ports and in a folder of its own, and ends them: a
    Kafka that you run is not touched.
    """


@torture.command(
    help=f"""Torture the gateway: faults under load, then every answer is held against Kafka.

    Senders ask with keep-alive connections, some for an answer at once (Prefer: respond-async), some for a wait,
    one record or many, and write down every answer. Meanwhile one fault after the other strikes. At the end Kafka's
    own console consumer reads the topic back, and each promise is judged: nothing answered 200 or 202 is lost,
    offsets are true, nothing refused is there, the order of each key holds, answers come in time, what was kept
    gets through.

    Exit code 0 when every promise held, 1 when one was broken. The seed repeats the plan and the requests (the
    moments at which they meet are the machine's).

    \b
    Faults:
{_KINDS.replace("      ", "      ", 1)}

    \b
    Examples:
      recado torture gateway
      recado torture gateway --seconds 40 --faults kill-gateway,kill-broker
      recado torture gateway --minutes 30 --brokers 3 --gateways 2
      recado torture gateway --seed 7 --json | jq .checks
    """
)
@click.option("--minutes", type=click.FloatRange(min=0.1), metavar="N", help="How long to strike.  [default: 2]")
@click.option("--seconds", type=click.FloatRange(min=5), metavar="N", help="The same in seconds.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Repeats a plan.  [default: any]")
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Brokers of its Kafka.")
@click.option("--gateways", type=click.IntRange(1, 2), default=1, show_default=True, help="Gateways.")
@click.option("--faults", "kinds", metavar="A,B,C", default="", help="Faults to choose from.  [default: all that fit]")
@click.option("--rate", type=click.FloatRange(1, 5000), default=150, show_default=True, help="Requests a second.")
@click.option("--senders", type=click.IntRange(1, 64), default=8, show_default=True, help="Senders at once.")
@click.option("--keep", is_flag=True, help="Keep Kafka's data and the spools; they stay anyhow when a promise broke.")
@click.option("--json", "as_json", is_flag=True, help="Write the verdict as one JSON object.")
def gateway(
    minutes: float | None,
    seconds: float | None,
    seed: int | None,
    brokers: str,
    gateways: int,
    kinds: str,
    rate: float,
    senders: int,
    keep: bool,
    as_json: bool,
) -> int:
    """Parse, run, show."""
    if minutes is not None and seconds is not None:
        raise click.UsageError("--minutes and --seconds say the same: give one of them.")
    plan = make_plan(
        seed=random.SystemRandom().randrange(1_000_000) if seed is None else seed,
        seconds=seconds or (minutes * 60 if minutes else SECONDS),
        brokers=int(brokers),
        gateways=gateways,
        kinds=[name.strip() for name in kinds.split(",") if name.strip()],
    )
    if not plan.faults:
        raise click.UsageError(f"No fault is left to strike: {'; '.join(plan.left_out)}.")
    terms = Terms(
        folder=Path(tempfile.mkdtemp(prefix="recado-torture-")),
        environment=os.environ,
        kafka_version=load_settings().settings.kafka_version,
        rate=rate,
        senders=senders,
        keep=keep,
    )
    with watching(plan, terms.folder) as watch:
        report = run(plan, terms, watch)
    if as_json:
        click.echo(report.as_json())
    else:
        _show(report)
    return 0 if report.judgement.passed else FAILED


torture.add_command(torture_worker.worker)
torture.add_command(torture_worker.member)


def _show(report: Report) -> None:
    """The verdict for a person: a line for each promise, the cases of the broken ones, and where to look further."""
    judgement, figures = report.judgement, report.judgement.figures
    show_checks(judgement.checks)
    statuses = ", ".join(f"{status or 'no answer'} {count:,}" for status, count in sorted(report.statuses.items()))
    click.echo(f"{figures['requests']:,.0f} requests: {statuses}")
    click.echo(
        f"{figures['records']:,.0f} records: {figures['delivered']:,.0f} delivered, {figures['accepted']:,.0f} "
        f"accepted, {figures['refused']:,.0f} refused, {figures['unknown']:,.0f} unknown; in Kafka "
        f"{figures['in_kafka']:,.0f}, {figures['duplicates']:,.0f} of them duplicates; slowest answer "
        f"{figures['slowest_s']:.2f} s"
    )
    click.echo(f"History: {report.history}")
    show_verdict(report.plan, passed=judgement.passed, took_s=report.took_s)
