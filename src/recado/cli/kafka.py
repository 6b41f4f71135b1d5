"""``recado kafka``: the embedded Kafka by itself, and Kafka's own command line tools."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from recado.cli.options import current_settings, settings_options
from recado.cli.progress import TROUBLE, KafkaProgress
from recado.embedded import TOOL_NAMES, VERSIONS, EmbeddedKafka, Status, run_tool
from recado.errors import ConfigurationError
from recado.settings import Settings

__all__ = ["TOOL_HELP", "kafka"]

#: Exit code of `status` when no Kafka answers.
UNREACHABLE = 4

#: What each of Kafka's tools is for.
TOOL_HELP = {
    "acls": "List, add and remove access rules.",
    "broker-api-versions": "Show which requests a broker understands.",
    "client-metrics": "Configure which metrics clients push.",
    "cluster": "Show the cluster's id.",
    "configs": "Show and change dynamic settings.",
    "console-consumer": "Print a topic's records.",
    "console-producer": "Send each line of standard input.",
    "console-share-consumer": "Print records as a share group (4.x).",
    "consumer-groups": "Describe groups, reset their offsets.",
    "consumer-perf-test": "Measure how fast records are read.",
    "delegation-tokens": "Create, renew and expire tokens.",
    "delete-records": "Delete records up to an offset.",
    "dump-log": "Print a log segment's file; asks no broker.",
    "features": "Show and change feature levels.",
    "get-offsets": "Show the first or last offsets of topics.",
    "groups": "List groups of every type (4.x).",
    "leader-election": "Elect partition leaders.",
    "log-dirs": "Show each partition's size on disk.",
    "metadata-quorum": "Show the controllers' quorum.",
    "producer-perf-test": "Measure how fast records are sent.",
    "reassign-partitions": "Move partitions between brokers.",
    "share-consumer-perf-test": "Measure how fast a share group reads (4.x).",
    "share-groups": "Describe share groups, reset offsets (4.x).",
    "storage": "Format or inspect storage; asks no broker.",
    "streams-groups": "Describe Kafka Streams groups (4.x).",
    "topics": "Create, list, describe and delete topics.",
    "transactional-message-copier": "Copy a partition in transactions; JSON.",
    "transactions": "Describe, find and abort transactions.",
    "verifiable-consumer": "Read a topic, reporting in JSON.",
    "verifiable-producer": "Send numbers, reporting in JSON.",
    "verifiable-share-consumer": "Read as a share group, in JSON (4.x).",
}


def _settings() -> Settings:
    found = click.get_current_context().obj
    return found if isinstance(found, Settings) else current_settings()


def _environment() -> Mapping[str, str]:
    """The environment in which Java is looked for and run; settings come from elsewhere."""
    return os.environ


def _embedded(*, brokers: int | None = None, port: int | None = None, version: str | None = None) -> EmbeddedKafka:
    settings = _settings()
    return EmbeddedKafka(
        settings.data_dir,
        java_env=_environment(),
        version=version or settings.kafka_version,
        brokers=brokers,
        port=_own_port(settings.bootstrap_servers) if port is None else port,
    )


def _own_port(bootstrap_servers: str) -> int:
    """The port where clients look for Kafka on this machine, else Kafka's usual one."""
    host, _, port = bootstrap_servers.split(",")[0].strip().rpartition("://")[2].rpartition(":")
    return int(port) if host in ("localhost", "127.0.0.1") and port.isdigit() else 9092


class _Tool(click.Command):
    """Passes every argument through untouched, ``--help`` and ``--`` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        ctx.args = []
        return ctx.args


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@settings_options()
def kafka() -> None:
    """Run a real Kafka on this machine, and Kafka's own tools.

    start, stop, status and reset are about the embedded Kafka, whose data is in the data directory. Every other
    command is the tool of that name from Apache Kafka: its arguments are passed through, and --bootstrap-server
    is added when you give none.
    """


@kafka.command()
@click.option("--brokers", type=click.IntRange(1, 5), help="How many; fixed at the first start.  [default: 1]")
@click.option("--port", type=click.IntRange(0, 65530), help="Of the first broker, the others follow; 0: any free one.")
@click.option("--version", type=click.Choice(VERSIONS), help="Of Apache Kafka.")
def start(brokers: int | None, port: int | None, version: str | None) -> None:
    """Start a Kafka and leave it running."""
    embedded = _embedded(brokers=brokers, port=port, version=version)
    began = time.monotonic()
    with KafkaProgress() as report:
        started = embedded.start(report, detach=True)
    servers = embedded.bootstrap_servers
    after = f"is ready on {servers} ({time.monotonic() - began:.1f} s)" if started else f"runs already on {servers}"
    click.echo(f"Kafka {embedded.status().version} {after}.")
    if not _same_servers(servers, _settings().bootstrap_servers):
        click.echo(f"Tell the programs that use it: export RECADO_BOOTSTRAP_SERVERS={servers}")
    click.echo("Stop it with `recado kafka stop`; its data stays.")


def _same_servers(ours: str, theirs: str) -> bool:
    return bool({s.strip() for s in theirs.replace("127.0.0.1", "localhost").split(",")} & set(ours.split(",")))


@kafka.command()
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=30.0, help="Seconds; then it is killed.")
def stop(timeout_s: float) -> None:
    """Stop the embedded Kafka; its data stays."""
    with KafkaProgress() as report:
        stopped = _embedded().stop(timeout_s, report)
    click.echo("Kafka is stopped." if stopped else "No embedded Kafka was running.")


@kafka.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show whether the embedded Kafka answers.

    Exit code 0 when every broker does, 4 when not.
    """
    seen = _embedded().status()
    if as_json:
        click.echo(json.dumps(_as_json(seen)))
    else:
        _show(seen)
    ctx.exit(0 if seen.answering else UNREACHABLE)


def _as_json(seen: Status) -> dict[str, Any]:
    brokers = [{**asdict(broker), "log": str(broker.log)} for broker in seen.brokers]
    return {**asdict(seen), "brokers": brokers, "answering": seen.answering, "running": seen.running}


def _show(seen: Status) -> None:
    if seen.version is None:
        click.echo(f"No embedded Kafka in {_settings().data_dir} yet. Start one with `recado kafka start`.")
        return
    click.echo(f"Kafka {seen.version}, {seen.bootstrap_servers}")
    for broker in seen.brokers:
        process = f", process {broker.pid}" if broker.pid else ""
        click.echo(f"  broker {broker.id} on {broker.address}: {_WORDS[broker.state]}{process}; log {broker.log}")


_WORDS = {"answering": "answers", "silent": "runs but does not answer", "stopped": "stopped"}


@kafka.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(yes: bool) -> None:
    """Delete the embedded Kafka's data.

    It is stopped, and every topic, record and offset in it is gone: it asks before.
    """
    folder = _settings().data_dir / "kafka"
    if not yes:
        _confirm(folder)
    with KafkaProgress() as report:
        _embedded().reset(progress=report)
    click.echo(f"{folder} is gone: the next start is a fresh Kafka.")


def _confirm(folder: Path) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(f"`recado kafka reset` deletes {folder} for good; without a terminal it needs --yes.")
    click.confirm(f"Delete {folder} with every topic, record and offset in it?", abort=True)


def _tool(name: str) -> click.Command:
    def run(arguments: tuple[str, ...]) -> None:
        settings = _settings()
        with KafkaProgress(sentences=TROUBLE) as report:
            code = run_tool(
                name,
                arguments,
                version=settings.kafka_version,
                bootstrap_servers=settings.bootstrap_servers,
                java_env=_environment(),
                progress=report,
            )
        click.get_current_context().exit(code)

    return _Tool(name, callback=run, help=TOOL_HELP[name], add_help_option=False)


for _name in TOOL_NAMES:
    kafka.add_command(_tool(_name))
