"""`recado up`: Kafka, the topic, the gateway and a worker in one terminal, ended in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import click

from recado.cli.options import current_settings, settings_options
from recado.cli.progress import KafkaProgress
from recado.embedded import EmbeddedKafka
from recado.errors import KafkaUnreachable
from recado.gateway.server import require_free
from recado.kafka.admin import Admin
from recado.settings import Settings
from recado.supervisor import Program, Supervisor

__all__ = ["up"]

#: Partitions of the topic where it has to be made.
PARTITIONS = 3

#: How long to look for a Kafka that is there already, in seconds.
LOOK_FOR_KAFKA_S = 2.0

#: How long the gateway and the worker may take to be ready, in seconds.
READY_S = 60.0

#: What the worker logs when the group has given it partitions.
ASSIGNED = "partitions assigned"

#: Where a Kafka of our own is started when nothing answers: anything else is somebody's cluster.
LOCAL = ("localhost", "127.0.0.1")


@click.command()
@click.argument("app", metavar="[APP.py]", required=False)
@click.argument("worker", metavar="[WORKER.py]", required=False)
@settings_options(host="Address of the gateway.", port="Port of the gateway.", topic="The topic.", group="The group.")
def up(app: str | None, worker: str | None) -> int:
    """Start everything in this terminal: Kafka, topic, gateway, worker. Ctrl-C stops all of it in order.

    Where nothing answers at localhost:9092 a real Kafka is started, with its data in .recado. APP.py holds your
    Flask app (`app`), WORKER.py your recado.Worker (`worker`); without them the example runs.

    \b
    Examples:
      recado up
      recado up app.py jobs.py
      recado up --port 5050
    """
    settings = current_settings(logging=True)
    require_free(settings.host, settings.port)
    stop, hurry = _stop_on_signals()
    with _kafka(settings):
        if Admin(settings).create_topic(settings.topic, partitions=PARTITIONS):
            click.echo(f"Created topic {settings.topic} with {PARTITIONS} partitions", err=True)
        assigned = threading.Event()

        def on_line(name: str, line: str) -> None:
            click.echo(f"{name:<7} | {line}", err=True)
            if name == "worker" and ASSIGNED in line:
                assigned.set()

        supervisor = Supervisor(_programs(app, worker), on_line=on_line, drain_s=settings.drain_s)
        threading.Thread(target=_say_stopping, args=(stop,), daemon=True).start()
        threading.Thread(target=_announce, args=(settings, assigned, stop), daemon=True).start()
        code = supervisor.run(stop, hurry=hurry)
    click.echo("Everything has stopped." if code == 0 else f"Stopped with exit code {code}; see above.", err=True)
    return code


def _stop_on_signals() -> tuple[threading.Event, threading.Event]:
    stop, hurry = threading.Event(), threading.Event()

    def request(signum: int, frame: object) -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request)
    return stop, hurry


@contextmanager
def _kafka(settings: Settings) -> Iterator[None]:
    """Have a Kafka: the one that answers, else our own until the block ends."""
    try:
        Admin(settings).broker_count(timeout_s=LOOK_FOR_KAFKA_S)
    except KafkaUnreachable:
        pass
    else:
        click.echo(f"Using the Kafka that answers at {settings.bootstrap_servers}", err=True)
        yield
        return
    host, _, port = settings.bootstrap_servers.partition(":")
    if host not in LOCAL or "," in settings.bootstrap_servers:
        raise KafkaUnreachable(f"No Kafka answers at {settings.bootstrap_servers}. `recado doctor` looks closer.")
    kafka = EmbeddedKafka(
        settings.data_dir, java_env=os.environ, version=settings.kafka_version, port=int(port or 9092)
    )
    with KafkaProgress() as report:
        kafka.start(report)
    click.echo(f"Kafka {settings.kafka_version} is ready at {kafka.bootstrap_servers}", err=True)
    try:
        yield
    finally:
        kafka.stop()
        click.echo("Kafka has stopped; its data stays in " + str(settings.data_dir), err=True)


def _programs(app: str | None, worker: str | None) -> list[Program]:
    given = click.get_current_context().meta.get("recado.options", {})
    environment = dict(os.environ)
    environment |= {f"RECADO_{name.upper()}": str(value) for name, value in given.items() if name != "config"}
    environment.setdefault("RECADO_LOG_FORMAT", "human")
    environment["PYTHONUNBUFFERED"] = "1"
    config = ["--config", str(given["config"])] if "config" in given else []
    recado = [sys.executable, "-m", "recado"]
    return [
        Program("gateway", [*recado, "gateway", *([app] if app else []), *config], environment),
        Program("worker", [*recado, "worker", worker or "recado.example:worker", *config], environment),
    ]


def _announce(settings: Settings, assigned: threading.Event, stop: threading.Event) -> None:
    """Say what to try, once it will work: the gateway is ready, and the worker has its partitions."""
    url = f"http://localhost:{settings.port}" if settings.host in LOCAL else f"http://{settings.host}:{settings.port}"
    deadline = time.monotonic() + READY_S
    while not (assigned.is_set() and _answers(f"{url}/health/ready")):
        if stop.wait(0.1) or time.monotonic() > deadline:
            return
    body = f'{{"message": "Hola Kafka", "topic": "{settings.topic}"}}'
    click.echo(
        f"\nEverything runs. Try, in another terminal:\n\n"
        f"  curl -X POST {url}/send -H \"Content-Type: application/json\" -d '{body}'\n\n"
        f"Docs: {url}/docs   Stop: Ctrl-C\n",
        err=True,
    )


def _say_stopping(stop: threading.Event) -> None:
    stop.wait()
    click.echo("\nStopping: gateway, worker, Kafka … (Ctrl-C again hurries)", err=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - our own http URL
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
