"""`recado send`: one record, or one for each line of standard input, straight to Kafka."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import click
import msgspec

from recado.cli.options import current_settings, settings_options
from recado.errors import KafkaUnreachable
from recado.gateway.answer import answer
from recado.gateway.envelope import check_size, checked_header, checked_partition
from recado.gateway.intake import Intake
from recado.gateway.reader import Shape, Submission, new_ids
from recado.kafka.cluster import connect
from recado.record import HEADER_ID, Outgoing
from recado.settings import Settings

__all__ = ["send"]

#: Lines that are sent together; each batch is confirmed before the next.
BATCH = 10_000


@click.command()
@click.argument("topic")
@click.argument("value", required=False)
@click.option("--key", help="The record's key.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may stand several times.")
@click.option("--partition", type=click.IntRange(0), help="One partition; by default the key decides.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each record.")
@settings_options(wait_s="Longest wait for Kafka's confirmation, in seconds.")
def send(
    topic: str, value: str | None, key: str | None, headers: tuple[str, ...], partition: int | None, as_json: bool
) -> int:
    r"""Send VALUE to TOPIC and say where it lies, once Kafka has confirmed.

    Without VALUE, or with -, each line of standard input is a record.

    \b
    Examples:
      recado send orders '{"id": 7}' --key customer-1
      cat events.txt | recado send orders
    """
    settings = current_settings()
    pairs = [checked_header(*_pair(header)) for header in headers]
    key_bytes = None if key is None else key.encode()
    number = -1 if partition is None else checked_partition(partition)

    def record(text: bytes) -> Outgoing:
        record_id = new_ids(1)[0]
        made = Outgoing(topic, text, record_id, key_bytes, [(HEADER_ID, record_id.encode()), *pairs], number)
        check_size(made, settings.max_record_bytes)
        return made

    producer, topics = connect(settings)
    intake = Intake(producer=producer, topics=topics)
    if not topics.reachable:
        raise KafkaUnreachable(f"No Kafka answers at {settings.bootstrap_servers}. `recado doctor` looks closer.")
    if value is not None and value != "-":
        return _send(intake, [record(value.encode())], settings, as_json=as_json)
    if sys.stdin.isatty():
        click.echo("Each line is a record; end with Ctrl-D.", err=True)
    code = total = 0
    for batch in _batches(sys.stdin.buffer):
        code = max(code, _send(intake, [record(line) for line in batch], settings, as_json=as_json))
        total += len(batch)
        if total > BATCH:
            click.echo(f"\r{total:,} records sent", err=True, nl=False)
    if total > BATCH:
        click.echo("", err=True)
    return code


def _send(intake: Intake, records: list[Outgoing], settings: Settings, *, as_json: bool) -> int:
    submission = Submission(records, Shape.LINES, settings.wait_s, {records[0].topic: len(records)})
    intake.admit(submission)
    done = threading.Event()
    delivery = intake.open(submission, lambda delivery: done.set())
    intake.send(delivery)
    done.wait(settings.wait_s)
    results = [msgspec.json.decode(line) for line in answer(delivery, Shape.LINES).body.splitlines()]
    bad = [result for result in results if result["status"] != "delivered"]
    for result in results if as_json else bad or results if len(results) == 1 else bad:
        click.echo(msgspec.json.encode(result).decode() if as_json else _sentence(result))
    if not as_json and len(results) > 1:
        click.echo(f"{len(results) - len(bad):,} of {len(results):,} records delivered to {records[0].topic}")
    return 1 if bad else 0


def _sentence(result: dict[str, object]) -> str:
    if result["status"] == "delivered":
        return f"delivered to {result['topic']}, partition {result['partition']}, offset {result['offset']} (id {result['id']})"
    return f"{result['status']}: {result['detail']} (id {result['id']})"


def _pair(header: str) -> tuple[str, str]:
    name, sign, value = header.partition("=")
    if not sign:
        raise click.UsageError(f"--header {header!r} must be NAME=VALUE.")
    return name, value


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line.rstrip(b"\r\n"))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


