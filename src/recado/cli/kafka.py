"""``recado kafka``: the embedded Kafka by itself, and Kafka's own command line tools."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from recado.embedded import TOOL_NAMES, VERSIONS, EmbeddedKafka, Progress, Status, run_tool
from recado.errors import ConfigurationError

__all__ = ["kafka"]

#: Exit code of `status` when no Kafka answers.
UNREACHABLE = 4


class _Settings(Protocol):
    """What these commands read of the settings."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def bootstrap_servers(self) -> str: ...
    @property
    def kafka_version(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Defaults:
    data_dir: Path = Path(".recado")
    bootstrap_servers: str = "localhost:9092"
    kafka_version: str = VERSIONS[0]


def _settings() -> _Settings:
    return click.get_current_context().obj or _Defaults()


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
    host, _, port = bootstrap_servers.split(",")[0].strip().rpartition(":")
    return int(port) if host in ("localhost", "127.0.0.1") and port.isdigit() else 9092


_SENTENCES = {
    "refused": "Refused: {detail}",
    "java": "Using {detail}",
    "format": "Formatting {detail}",
    "start": "Starting {detail}",
    "stop": "Stopping {detail}",
}


@dataclass(slots=True)
class _Reporter:
    """Shows progress on standard error: a line for each stage, a bar while jars are fetched."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    sentences: Mapping[str, str] = field(default_factory=lambda: _SENTENCES)
    bar: Bar | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "fetch":
            self._fetch(progress)
            return
        self.close()
        if progress.stage in self.sentences:
            self.console.print(self.sentences[progress.stage].format(detail=progress.detail), markup=False)

    def _fetch(self, progress: Progress) -> None:
        if self.bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self.bar = Bar(*columns, console=self.console)
            self.bar.add_task("", total=progress.size_total_bytes)
            self.bar.start()
        files = f"{progress.files_done} of {progress.files_total} files"
        text = f"Fetching {progress.detail}, {files}"
        self.bar.update(self.bar.task_ids[0], completed=progress.size_done_bytes, description=text)

    def close(self) -> None:
        """End the bar, so that what follows starts on a line of its own."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class _Tool(click.Command):
    """Passes every argument through untouched, ``--help`` and ``--`` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        ctx.args = []
        return ctx.args


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    """Start Kafka on this machine and leave it running."""
    embedded = _embedded(brokers=brokers, port=port, version=version)
    report = _Reporter()
    began = time.monotonic()
    try:
        started = embedded.start(report, detach=True)
    finally:
        report.close()
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
    stopped = _embedded().stop(timeout_s, _Reporter())
    click.echo("Kafka is stopped." if stopped else "No embedded Kafka was running.")


@kafka.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show whether the embedded Kafka answers: exit code 0, or 4 when it does not."""
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
    """Stop the embedded Kafka and delete every topic, record and offset in it."""
    folder = _settings().data_dir / "kafka"
    if not yes:
        _confirm(folder)
    _embedded().reset(progress=_Reporter())
    click.echo(f"{folder} is gone: the next start is a fresh Kafka.")


def _confirm(folder: Path) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(f"`recado kafka reset` deletes {folder} for good; without a terminal it needs --yes.")
    click.confirm(f"Delete {folder} with every topic, record and offset in it?", abort=True)


def _tool(name: str) -> click.Command:
    def run(arguments: tuple[str, ...]) -> None:
        settings = _settings()
        code = run_tool(
            name,
            arguments,
            version=settings.kafka_version,
            bootstrap_servers=settings.bootstrap_servers,
            java_env=_environment(),
            progress=_Reporter(sentences={"refused": _SENTENCES["refused"]}),
        )
        click.get_current_context().exit(code)

    summary = f"Kafka's own tool; `recado kafka {name} --help` shows its options."
    return _Tool(name, callback=run, help=summary, add_help_option=False)


for _name in TOOL_NAMES:
    kafka.add_command(_tool(_name))
