"""`recado worker`: a worker by itself, in one process or several, or started anew when the code changes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import click
from watchfiles import PythonFilter, watch

from recado.cli.loading import load_object
from recado.cli.members import client_id, watch_members
from recado.cli.options import current_settings, settings_options
from recado.settings import Settings
from recado.supervisor import Program, Supervisor
from recado.worker import Worker
from recado.worker.ending import EXIT_S, end_within

__all__ = ["worker"]


@click.command()
@click.argument("target", metavar="MODULE:WORKER")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
              help="Run so many processes, each a member of the group.")  # fmt: skip
@click.option("--reload", is_flag=True, help="Start anew when a .py file below the working directory changes.")
@settings_options(group="Consumer group, where the worker names none.", topic="Topic of handlers that name none.",
                  worker_port="Port of the worker's health and metrics.")  # fmt: skip
def worker(target: str, processes: int, reload: bool) -> int:
    """Run the handlers of a recado.Worker until SIGTERM or Ctrl-C.

    MODULE:WORKER is where it is, such as shop.jobs:worker or jobs.py (then the name is `worker`). Handlers that are
    at work are finished first, for at most RECADO_DRAIN_S seconds; what remains comes again (exit code 3).

    \b
    Examples:
      recado worker jobs.py
      recado worker shop.jobs:worker --processes 4
      recado worker jobs.py --reload
    """
    settings = current_settings()
    if processes == 1 and not reload:
        load_object(target, Worker, "worker").run(settings=settings)
        end_within(EXIT_S, 0)
        return 0
    loaded = load_object(target, Worker, "worker")  # a mistake should be said here, not by every child
    return _supervise(target, processes, settings, loaded.group or settings.group, reload=reload)


def _supervise(target: str, processes: int, settings: Settings, group: str, *, reload: bool) -> int:
    command = [sys.executable, "-m", "recado", "worker", target, *_own_options()]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # or what handlers print would come late
    if settings.log_format == "auto" and sys.stderr.isatty():
        environment["RECADO_LOG_FORMAT"] = "human"  # a child writes into a pipe, but a person reads it
    names = [f"worker-{number}" for number in range(1, processes + 1)]
    programs = [Program(name, command, {**environment, **_identity(settings, name)}, crew="worker") for name in names]
    stop, hurry, changed = threading.Event(), threading.Event(), threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    supervisor = Supervisor(programs, on_line=_print_line, drain_s=settings.drain_s)
    if processes > 1:
        watch_members(settings, group, names, lambda line: _print_line("members", line))
    if reload:
        threading.Thread(target=_watch, args=(stop, changed), name="reload", daemon=True).start()
    return supervisor.run(stop, hurry=hurry, reload=changed if reload else None)


def _identity(settings: Settings, name: str) -> dict[str, str]:
    """Each of several has a name by which the coordinator shows it, and a static member an identity of its own."""
    own = {"RECADO_KAFKA_CONSUMER_CLIENT_ID": client_id(settings, name)}
    identity = {**settings.kafka, **settings.kafka_consumer}.get("group.instance.id")
    return own | ({"RECADO_KAFKA_CONSUMER_GROUP_INSTANCE_ID": f"{identity}-{name}"} if identity else {})


def _own_options() -> list[str]:
    """The options of this call that are settings, for the children."""
    given = click.get_current_context().meta.get("recado.options", {})
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def _watch(stop: threading.Event, changed: threading.Event) -> None:
    for changes in watch(Path.cwd(), watch_filter=PythonFilter(), stop_event=stop):
        click.echo(f"reload: {Path(next(iter(changes))[1]).name} changed, starting anew", err=True)
        changed.set()


def _print_line(name: str, line: str) -> None:
    click.echo(f"{name} | {line}", err=True)
