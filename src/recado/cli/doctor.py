"""`recado doctor`: looks at everything that recado needs; each problem in one line with its remedy."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from datetime import datetime

import click
import msgspec

from recado.cli.check_kafka import (
    check_advertised,
    check_clients,
    check_properties,
    check_way,
    judge_failure,
    judge_group,
    judge_topic,
)
from recado.cli.check_machine import (
    check_clock,
    check_disk,
    check_folder,
    check_java,
    check_open_files,
    check_port,
)
from recado.cli.finding import Finding, ok, problem
from recado.cli.look import settings_to_look
from recado.cli.main import UNREACHABLE, USAGE
from recado.cli.options import settings_options
from recado.cli.printable import printable
from recado.errors import ConfigurationError, KafkaUnreachable, NotAllowed, RecadoError
from recado.kafka.admin import Admin
from recado.kafka.groups import Groups
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["doctor"]

#: How long Kafka may take to answer at all, in seconds.
TIMEOUT_S = 5.0

#: Which exit code a check's problem leads to; any other problem leads to 1.
_CODES = {"settings": USAGE, "way to kafka": UNREACHABLE, "kafka": UNREACHABLE}

_MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "problem": ("PROBLEM", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
@settings_options(
    topic="Topic to look at.", group="Consumer group to look at.", host="Address of the gateway.", port="Its port."
)
def doctor(as_json: bool) -> int:
    """Check settings, Kafka, topic, group, disk, clock, ports and Java.

    Each check is one line: ok, a warning or a problem, what was seen, and what to do about it.

    \b
    Exit code: 0 no problem (there may be warnings), 1 a problem, 2 a setting is wrong, 4 Kafka is unreachable.

    \b
    Examples:
      recado doctor
      recado doctor --topic orders --group billing
      recado doctor --json | jq '.[] | select(.status != "ok")'
    """
    found = []
    for finding in _examine():
        found.append(finding)
        if not as_json:
            click.echo(_line(finding))
    if as_json:
        click.echo(msgspec.json.encode([finding._asdict() for finding in found]))
    return exit_code(found)


def exit_code(found: list[Finding]) -> int:
    """The exit code of what was found: the worst says it."""
    codes = {_CODES.get(finding.check, 1) for finding in found if finding.status == "problem"}
    return next((code for code in (USAGE, UNREACHABLE, 1) if code in codes), 0)


def _line(finding: Finding) -> str:
    mark, colour = _MARKS[finding.status]
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    return f"{click.style(mark, colour)} {finding.check}: {printable(finding.detail + remedy)}"


def _examine() -> Iterator[Finding]:
    try:
        settings = settings_to_look()
    except ConfigurationError as error:
        yield problem("settings", str(error), "`recado settings --help` shows how they are written")
        return
    clients = check_clients(settings)
    yield clients
    if clients.status == "problem":
        return
    yield check_folder(settings.data_dir)
    yield check_disk(settings.data_dir)
    yield check_open_files()
    yield check_port("gateway", settings.host, settings.port, option="RECADO_PORT")
    yield check_port("worker", settings.worker_host, settings.worker_port, option="RECADO_WORKER_PORT")
    yield check_java(os.environ)
    yield check_properties(settings)
    newest_ms = yield from _kafka(settings)
    yield check_clock(datetime.now().astimezone(), newest_ms)


def _kafka(settings: Settings) -> Generator[Finding, None, int | None]:
    """Everything that Kafka must be asked for; returns the newest record's timestamp in ms, if there is one."""
    ways = [check_way(server) for server in settings.bootstrap_servers.split(",")]
    if all(way.status == "problem" for way in ways):
        yield from ways
        return None
    # One open way is enough for a client: the others are worth a warning.
    yield from (way._replace(status="warning") if way.status == "problem" else way for way in ways)
    admin = Admin(settings)
    try:
        cluster = admin.cluster(timeout_s=TIMEOUT_S)
    except RecadoError as error:
        yield judge_failure(error, settings)
        return None
    security = settings.kafka.get("security.protocol", "plaintext").upper()
    yield ok("kafka", f"it answers over {security}; cluster {cluster.id}")
    yield check_advertised(cluster)
    try:
        topic = admin.topic(settings.topic)
        yield judge_topic(topic, len(cluster.brokers), settings)
        groups = Groups(admin)
        group = groups.describe([settings.group])[settings.group]
        yield judge_group(group, groups.lags([group])[group.name])
        numbers = () if topic is None else (partition.number for partition in topic.partitions)
        return admin.newest_ms([TopicPartition(settings.topic, number) for number in numbers])
    except KafkaUnreachable as error:
        yield problem("kafka", str(error), "it answered a moment ago: look at the broker's log")
    except NotAllowed as error:
        yield problem("access", str(error), "grant this user Describe on topic, group and cluster")
    except RecadoError as error:
        yield problem("kafka's answers", str(error), "run it again; if that stays, the broker's log says more")
    return None
