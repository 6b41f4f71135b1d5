"""`recado spool`: what was accepted and waits on this machine's disk for Kafka, and what Kafka refused."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.options import settings_options
from recado.cli.printable import printable, shown
from recado.cli.status_line import StatusLine
from recado.cli.table import show as show_table
from recado.errors import KafkaUnreachable, RecadoError
from recado.gateway.spool.folder import Folder, Owned
from recado.gateway.spool.inventory import File, Found, damaged_files, discard, files, find, refused_rows
from recado.gateway.spool.row import REFUSED, Row
from recado.gateway.spool.spool import Spool
from recado.kafka.cluster import connect
from recado.settings import Settings

__all__ = ["spool"]

#: Exit code: records are left.
LEFT = 3

#: Rest between two looks at how far it is, in seconds.
LOOK_S = 0.05

#: Kafka may be away so long while records go there, in seconds.
AWAY_S = 10.0


@click.group()
def spool() -> None:
    """What was accepted and waits on this machine's disk for Kafka, and what Kafka refused.

    A running gateway forwards what waits by itself. What Kafka refused for good, after it was accepted, waits for you.

    \b
    Examples:
      recado spool list
      recado spool list --refused
      recado spool show ID
      recado spool discard ID
      recado spool forward --refused
    """


@spool.command("list")
@click.option("--refused", is_flag=True, help="Each record that Kafka refused, with its reason.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an array.")
@settings_options()
def list_(refused: bool, as_json: bool) -> int:
    """List the spool's files: what waits, since when, what was refused, what was damaged."""
    folder = _folder(settings_to_look())
    return _list_refused(folder, as_json=as_json) if refused else _list_files(folder, as_json=as_json)


@spool.command()
@click.argument("id_", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an object, the value in base64.")
@settings_options()
def show(id_: str, as_json: bool) -> int:
    """Show one record: topic, key, headers, value, state, reason."""
    for found in _found(_folder(settings_to_look()), id_):
        click.echo(msgspec.json.encode(_details(found)) if as_json else _described(found))
    return 0


@spool.command()
@click.option("--refused", is_flag=True, help="Send again what Kafka refused, too.")
@settings_options()
def forward(refused: bool) -> int:
    """Send to Kafka what waits here, without a gateway.

    Exit code 3: records are left. 4: Kafka does not answer.
    """
    settings = settings_to_look()
    folder = _folder(settings)
    for file in files(folder):
        if file.in_use:
            click.echo(
                f"{file.path.name}: a running gateway forwards its {file.waiting:,} records by itself.", err=True
            )
    mine = [file for file in files(folder) if not file.in_use]
    if not any(file.waiting or file.trouble or (refused and file.refused) for file in mine):
        click.echo("Nothing to forward.", err=True)
        return 0
    owned = folder.take()
    try:
        if refused:
            with owned.store.transaction():
                owned.store.restore([row.seq for row in owned.store.rows(refused_only=True)])
        return _forward(owned, settings)
    finally:
        owned.release()


@spool.command("discard")
@click.argument("id_", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options()
def discard_(id_: str, yes: bool) -> int:
    """Remove one record that Kafka refused, or, while no gateway runs, any."""
    folder = _folder(settings_to_look())
    for found in _found(folder, id_):
        click.echo(_described(found), err=True)
        if not yes:
            click.confirm("Discard it? It is nowhere else.", abort=True, err=True)
        if not discard(folder, found):
            raise RecadoError(f"{id_} has left the spool meanwhile.")
        record = found.row.record
        click.echo(f"Discarded {id_}: topic {record.topic}, {len(record.value or b''):,} bytes, {_state(found.row)}.")
    return 0


def _folder(settings: Settings) -> Folder:
    return Folder(settings.data_dir / "spool")


def _found(folder: Folder, id_: str) -> list[Found]:
    found = find(folder, id_)
    if not found:
        raise RecadoError(f"No record {id_!r} is in {folder.directory}. Kafka may have it: recado tail TOPIC")
    return found


def _list_files(folder: Folder, *, as_json: bool) -> int:
    found, damaged = files(folder), damaged_files(folder)
    if as_json:
        rows = [_summary(file) for file in found]
        rows += [{"file": str(path), "state": _damaged(path.name), "bytes": path.stat().st_size} for path in damaged]
        click.echo(msgspec.json.encode(rows))
        return 0
    table = [
        (
            file.path.name,
            _use(file),
            f"{file.waiting:,}",
            f"{file.size_bytes:,}",
            _age(file.oldest_ms),
            f"{file.refused:,}",
        )
        for file in found
    ]
    table += [(path.name, _damaged(path.name), "-", f"{path.stat().st_size:,}", "-", "-") for path in damaged]
    titles = ("file", "state", "waiting", "bytes", "oldest", "refused")
    show_table(titles, table, empty=f"There is no spool in {folder.directory}: nothing waits here.")
    return 0


def _list_refused(folder: Folder, *, as_json: bool) -> int:
    found = list(refused_rows(folder))
    if as_json:
        click.echo(msgspec.json.encode([_details(one) for one in found]))
        return 0
    rows = [(one.row.record.id, one.row.record.topic, _moment(one.row.kept_ms), one.row.reason) for one in found]
    show_table(("id", "topic", "accepted", "reason"), rows, empty="Kafka refused nothing.")
    return 0


def _forward(owned: Owned, settings: Settings) -> int:
    link = connect(settings)
    spool = Spool(owned.store, max_bytes=settings.spool_max_bytes, producer=link.patient)
    total, why = spool.depth().rows, ""
    try:
        with StatusLine() as line:
            seen_at = time.monotonic()
            while left := spool.depth().rows:
                line.show(f"{total - left:,} of {total:,} records forwarded")
                if link.topics.reachable:
                    seen_at = time.monotonic()
                elif not spool.forwarded or time.monotonic() - seen_at > AWAY_S:
                    why = f"No broker answers at {settings.bootstrap_servers}."
                    break
                held = [one.held_why for one in spool.lines() if one.rows]
                if held and all(held):
                    why = held[0]
                    break
                time.sleep(LOOK_S)
    except KeyboardInterrupt:
        why = "Stopped."
    finally:
        spool.close(0 if why else settings.drain_s)
        link.producer.close(0)
    return _ended(spool, why, reachable=link.topics.reachable)


def _ended(spool: Spool, why: str, *, reachable: bool) -> int:
    depth = spool.depth()
    click.echo(f"Forwarded {spool.forwarded:,} records.")
    if depth.refused:
        click.echo(f"Kafka refused {depth.refused:,} records: recado spool list --refused", err=True)
    if depth.rows:
        left = f"{why} {depth.rows:,} records are left in {spool.path}."
        if not reachable:
            raise KafkaUnreachable(left)
        click.echo(left, err=True)
    return LEFT if depth.rows or depth.refused else 0


def _summary(file: File) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "state": _use(file),
        "waiting": file.waiting,
        "bytes": file.size_bytes,
        "oldest_ms": file.oldest_ms or None,
        "refused": file.refused,
    }


def _use(file: File) -> str:
    if file.trouble:
        return f"cannot be read: {file.trouble}"
    return "in use" if file.in_use else "no gateway"


def _damaged(name: str) -> str:
    return "damaged, saved" if ".aside-" in name else "damaged"


def _age(oldest_ms: int) -> str:
    return f"{max(0, time.time() - oldest_ms / 1000):,.0f} s" if oldest_ms else "-"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _state(row: Row) -> str:
    return f"refused: {row.reason}" if row.state == REFUSED else "waiting"


def _details(found: Found) -> dict[str, Any]:
    record = found.row.record
    return {
        "id": record.id,
        "topic": record.topic,
        "key": None if record.key is None else shown(record.key),
        "headers": [[name, shown(value or b"")] for name, value in record.headers],
        "value_base64": None if record.value is None else base64.b64encode(record.value).decode(),
        "partition": record.partition if record.partition >= 0 else None,
        "state": "refused" if found.row.state == REFUSED else "waiting",
        "reason": found.row.reason or None,
        "accepted": _moment(found.row.kept_ms),
        "file": str(found.path),
    }


def _described(found: Found) -> str:
    row, record = found.row, found.row.record
    lines = [
        ("id", printable(record.id)),
        ("topic", record.topic),
        ("state", printable(_state(row))),
        ("accepted", _moment(row.kept_ms)),
        ("file", str(found.path)),
        ("key", "-" if record.key is None else shown(record.key)),
        *(("header", f"{printable(name)}: {shown(value or b'')}") for name, value in record.headers),
        ("value", "- (tombstone)" if record.value is None else shown(record.value)),
    ]
    return "\n".join(f"{title:9} {text}" for title, text in lines)
