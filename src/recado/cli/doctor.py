"""`recado doctor`: looks at everything that recado needs; each problem in one line with its remedy."""

from __future__ import annotations

import resource
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import click
import msgspec

from recado.cli.main import UNREACHABLE
from recado.cli.options import load_settings, settings_options
from recado.errors import ConfigurationError, KafkaUnreachable, RecadoError
from recado.gateway.server import require_free
from recado.kafka.admin import Admin
from recado.kafka.config import consumer_config, producer_config
from recado.settings import Settings

__all__ = ["doctor"]

#: Below so much free room a broker or a spool is about to fail, in bytes.
LITTLE_ROOM_BYTES = 1_000_000_000

#: Fewer open files than this are soon used up by connections.
FEW_FILES = 1024


#: A clock that shows less is wrong, and every id and timestamp with it.
RELEASED = datetime(2026, 1, 1, tzinfo=UTC)


class Finding(NamedTuple):
    """What one check found. ``status`` is ok, warning or problem."""

    check: str
    status: str
    detail: str
    remedy: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@settings_options()
def doctor(as_json: bool) -> int:
    r"""Check settings, Kafka, topic, group, disk, clock and ports. Exit code 1 when something is wrong, 4 without Kafka.

    \b
    Examples:
      recado doctor
      recado doctor --json
    """
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            mark = {"ok": click.style("ok     ", "green"), "warning": click.style("warning", "yellow")}
            remedy = f" → {finding.remedy}" if finding.remedy else ""
            click.echo(f"{mark.get(finding.status, click.style('PROBLEM', 'red'))} {finding.check}: {finding.detail}{remedy}")
    if as_json:
        click.echo(msgspec.json.encode([finding._asdict() for finding in findings]).decode())
    if any(finding.check == "kafka" and finding.status == "problem" for finding in findings):
        return UNREACHABLE
    return 1 if any(finding.status == "problem" for finding in findings) else 0


def _examine() -> Iterator[Finding]:
    try:
        settings = load_settings().settings
    except ConfigurationError as error:
        yield Finding("settings", "problem", str(error), "recado settings")
        return
    yield Finding("settings", "ok", "every key is known and every value allowed")
    yield from _disk(settings)
    yield _files()
    yield _clock()
    yield _gateway_port(settings)
    try:
        admin = Admin(settings)
        brokers = admin.broker_count(timeout_s=5)
    except RecadoError as error:
        yield _unreachable(settings, error)
        return
    yield Finding("kafka", "ok", f"{brokers} broker(s) answer at {settings.bootstrap_servers}")
    checks: tuple[Callable[[Admin, Settings], Finding], ...] = (_properties, _topic, _group)
    for check in checks:
        try:
            yield check(admin, settings)
        except RecadoError as error:
            yield Finding(check.__name__.strip("_"), "problem", str(error))


def _unreachable(settings: Settings, error: RecadoError) -> Finding:
    for server in settings.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition("://")[2].rpartition(":")
        try:
            socket.getaddrinfo(host, int(port))
        except OSError:
            return Finding("kafka", "problem", f"the name {host!r} is not known", "check RECADO_BOOTSTRAP_SERVERS")
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
        except OSError as refused:
            detail = f"nothing answers at {server} ({refused.strerror or refused})"
            return Finding("kafka", "problem", detail, "start it (`recado kafka start`), or set RECADO_BOOTSTRAP_SERVERS")
    remedy = "" if isinstance(error, KafkaUnreachable) else "check the [kafka] settings"
    detail = f"something listens there, but does not speak Kafka as set up here: {error}"
    return Finding("kafka", "problem", detail, remedy or "check security.protocol and the broker's log")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        detail = f"{existing} is not writable ({error.strerror})"
        yield Finding("data folder", "problem", detail, "set RECADO_DATA_DIR to a folder that is")
        return
    free = shutil.disk_usage(existing).free
    status = "ok" if free >= LITTLE_ROOM_BYTES else "problem"
    yield Finding("disk", status, f"{free / 1e9:.1f} GB free at {existing}", "" if status == "ok" else "make room")


def _clock() -> Finding:
    """A broker tells nobody its time, so only what is surely wrong is found: a clock before this release."""
    now = datetime.now().astimezone()
    if now < RELEASED:
        return Finding("clock", "problem", f"it shows {now:%Y-%m-%d %H:%M %Z}, which has passed", "set it, run NTP")
    return Finding("clock", "ok", f"it shows {now:%Y-%m-%d %H:%M %Z}")


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft <= FEW_FILES
    remedy = "ulimit -n 65536 before the gateway starts" if few else ""
    return Finding("open files", "warning" if few else "ok", f"up to {soft}", remedy)


def _gateway_port(settings: Settings) -> Finding:
    try:
        require_free(settings.host, settings.port)
    except ConfigurationError as error:
        try:
            url = f"http://{settings.host}:{settings.port}/health/live"
            with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own http URL
                if response.read() == b'{"status":"live"}':
                    return Finding("gateway", "ok", f"a gateway answers on port {settings.port}")
        except (urllib.error.URLError, OSError):
            pass
        return Finding("gateway", "warning", str(error))
    return Finding("gateway", "ok", f"port {settings.port} is free for it")


def _properties(admin: Admin, settings: Settings) -> Finding:
    acks = str(producer_config(settings).get("acks"))
    isolation = str(consumer_config(settings, settings.group).get("isolation.level"))
    if acks not in ("all", "-1"):
        return Finding("durability", "warning", f"acks={acks}: a 200 no longer means all replicas", "remove it")
    if isolation != "read_committed":
        return Finding("durability", "warning", f"isolation.level={isolation} reads aborted records", "remove it")
    return Finding("durability", "ok", "acks=all, read_committed")


def _topic(admin: Admin, settings: Settings) -> Finding:
    found = next((topic for topic in admin.topics() if topic.name == settings.topic), None)
    if found is None:
        remedy = f"recado kafka topics --create --topic {settings.topic} --partitions 3"
        return Finding("topic", "problem", f"{settings.topic} does not exist", remedy)
    detail = f"{found.name} has {found.partitions} partition(s), {found.replicas} replica(s)"
    if found.replicas < 2 and admin.broker_count() > 1:
        return Finding("topic", "warning", detail, "one replica is lost with its broker: use 3")
    return Finding("topic", "ok", detail)


def _group(admin: Admin, settings: Settings) -> Finding:
    state = admin.groups().get(settings.group)
    if state is None:
        return Finding("group", "ok", f"{settings.group} does not exist yet: no worker has run")
    members = len(list(admin.members(settings.group)))
    lag = sum(lag.lag or 0 for lag in admin.lag(settings.group))
    detail = f"{settings.group} is {state}, {members} member(s), {lag:,} records behind"
    return Finding("group", "warning" if lag and not members else "ok", detail, "start a worker" if lag and not members else "")
