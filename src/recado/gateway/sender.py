"""Sending from Python without HTTP: the same answers, spool and guarantees; an exception where HTTP has an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
import structlog

from recado.clock import Deadline, wall_clock_ms
from recado.errors import ConfigurationError, DeliveryFailed, DeliveryUnknown, RecadoError
from recado.gateway.answer import fates_of
from recado.gateway.blocking import give
from recado.gateway.budget import RECORD_BYTES
from recado.gateway.due import deferred
from recado.gateway.envelope import (
    check_size,
    checked_header,
    checked_id,
    checked_partition,
    illegal_topic,
    invalid,
)
from recado.gateway.gateway import Connect, Gateway, MakeClients
from recado.gateway.idempotency.keys import record_keys
from recado.gateway.intake import refusal
from recado.gateway.moment import checked_moment
from recado.gateway.reader import Shape, Submission, new_ids
from recado.kafka.clients import ClusterClients
from recado.kafka.cluster import connect as connect_cluster
from recado.outcomes.delay import Delayed
from recado.record import HEADER_ID, Outgoing
from recado.settings import Settings, from_process, is_topic_name

__all__ = ["Receipt", "Sender"]

log = structlog.get_logger(__name__)

#: Sends of an asyncio program that may wait for Kafka at once; more wait for their turn.
THREADS = 64


class Receipt(msgspec.Struct, frozen=True):
    """What became of a record.

    ``delivered``: all in-sync replicas have it. ``accepted``: synced to this machine's disk, and it will be delivered;
    then position and ``timestamp_ms`` (those in Kafka) are None.
    """

    status: Literal["delivered", "accepted"]
    id: str
    topic: str
    partition: int | None = None
    offset: int | None = None
    timestamp_ms: int | None = None


class Sender:
    """Sends records to Kafka; make one per process and share it. Thread-safe, and safe over fork.

    Settings are read from the environment and ``recado.toml`` unless given. It connects at the first ``send``; records
    that a process before left in the spool of the same ``data_dir`` are sent then, too. ``connect`` and
    ``clients`` are for tests.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        connect: Connect = connect_cluster,
        clients: MakeClients = ClusterClients,
    ) -> None:
        self._settings = settings if settings is not None else from_process().settings
        self._gateway = Gateway(self._settings, connect=connect, clients=clients)
        self._threads: ThreadPoolExecutor | None = None
        #: Nothing new is taken; and nothing at all, once what asyncio programs had sent before is through.
        self._is_closing = self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: str | bytes | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        partition: int | None = None,
        timestamp: int | datetime | None = None,
        id: str | None = None,  # noqa: A002  # as in HTTP
        deliver_at: int | datetime | None = None,
        delay: str | None = None,
        wait_s: float | None = None,
        respond_async: bool = False,
    ) -> Receipt:
        """Send one record and wait up to ``wait_s`` seconds (``RECADO_WAIT_S``) for Kafka, then for this disk.

        ``value``: bytes as they are, a string as UTF-8, None a tombstone, anything else as compact JSON.
        ``timestamp``: milliseconds since the epoch, or an aware datetime. A record with an ``id`` of yours is sent once
        in 24 hours. ``deliver_at`` (like ``timestamp``) or ``delay`` ("10s") lets it land later.
        ``respond_async`` waits for the disk only.

        Blocks for ``wait_s`` and one second more at most. Raises RecadoError where HTTP has an error status; only
        DeliveryUnknown, without a spool, leaves open whether Kafka has the record. Raises ConfigurationError after
        ``close``.
        """
        if self._is_closed:
            raise _closed()
        plain = self._record(topic, value, key, headers, partition, timestamp, id)
        at = deliver_at.isoformat() if isinstance(deliver_at, datetime) else deliver_at
        record = deferred(plain, at, delay, wall_clock_ms())
        wait = self._settings.wait_s if wait_s is None else wait_s
        if not 0 <= wait <= 300:
            raise invalid("wait_s", f"{wait} must be 0 to 300 seconds.")
        keys = record_keys([record], [0]) if record.is_own_id else ()
        submission = Submission([record], Shape.ONE, wait, {record.topic: 1}, respond_async, keys)
        with self._gateway.budget.holding() as holding:
            holding.grow(len(record.value or b"") + RECORD_BYTES)
            fate = fates_of(*give(self._gateway, submission))[0]
        if isinstance(fate, RecadoError):
            raise fate
        if isinstance(fate, str) or isinstance(record, Delayed):
            return Receipt("accepted", record.id, topic)
        return Receipt("delivered", record.id, topic, *fate)

    async def send_async(self, topic: str, value: Any, **options: Any) -> Receipt:
        """Do what ``send`` does without blocking the event loop; the same options."""
        if self._is_closing:
            raise _closed()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="recado-sender")
        call = partial(self.send, topic, value, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def flush(self, timeout_s: float = 30.0) -> int:
        """Wait until everything accepted so far is in Kafka; return how many records were delivered since the start.

        Raises DeliveryUnknown when some are not, after ``timeout_s`` seconds; those in the spool are not lost. Raises
        DeliveryFailed when Kafka refused some for good after they were accepted: they stay in the spool, and every
        ``flush`` says so, until a person has looked at them (``recado spool list --refused``).
        """
        if self._is_closed:
            raise _closed()
        watch = self._gateway.intake.flush()
        if pending := watch.wait(timeout_s):
            raise DeliveryUnknown(f"{pending} records still wait for Kafka's confirmation after {timeout_s} s.")
        if refused := watch.refused():
            raise DeliveryFailed(refusal(refused))
        return watch.delivered()

    def close(self) -> None:
        """Wait up to ``RECADO_DRAIN_S`` for what is under way; what remains is kept in the spool, and said.

        Idempotent. Nothing can be sent after it.
        """
        if self._is_closing:
            return
        self._is_closing = True
        if self._threads is not None:
            self._threads.shutdown()
        self._is_closed = True
        left = self._gateway.close(Deadline(self._settings.drain_s))
        if left.spooled:
            log.warning(
                "records remain in the spool", records=left.spooled, path=str(self._settings.data_dir / "spool")
            )

    def _record(
        self,
        topic: str,
        value: Any,
        key: str | bytes | None,
        headers: Mapping[str, str | bytes] | None,
        partition: int | None,
        timestamp: int | datetime | None,
        record_id: str | None,
    ) -> Outgoing:
        if not is_topic_name(topic):
            raise illegal_topic(topic)
        own = checked_id(record_id) if record_id is not None else new_ids(1)[0]
        pairs = [(HEADER_ID, own.encode())]
        for name, content in (headers or {}).items():
            if isinstance(content, bytes):
                pairs.append((checked_header(name, "")[0], content))
            else:
                pairs.append(checked_header(name, content))
        if isinstance(timestamp, datetime):
            timestamp_ms = checked_moment("timestamp", timestamp.isoformat())
        else:
            timestamp_ms = 0 if timestamp is None else checked_moment("timestamp", timestamp)
        record = Outgoing(
            topic,
            _bytes(value),
            own,
            _utf8("key", key) if isinstance(key, str) else key,
            pairs,
            -1 if partition is None else checked_partition(partition),
            timestamp_ms,
            record_id is not None,
        )
        check_size(record, self._settings.max_record_bytes)
        return record


def _closed() -> ConfigurationError:
    return ConfigurationError("This Sender is closed, so nothing was sent. Make a new one, or close it later.")


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _utf8("value", value)
    try:
        return json.dumps(
            msgspec.to_builtins(value, str_keys=True), allow_nan=False, ensure_ascii=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid("value", f"cannot be JSON: {error}.") from error


def _utf8(field: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(field, f"is not Unicode text: {error}.") from error
