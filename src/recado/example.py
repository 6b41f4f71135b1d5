"""The example worker that `recado up` runs where no other is named."""

from __future__ import annotations

import structlog

from recado.record import Record
from recado.worker import Worker

__all__ = ["worker"]

log = structlog.get_logger(__name__)
worker = Worker()


@worker.handler()
def handle(record: Record) -> None:
    """Log what the record says."""
    log.info("received", text=record.text(), key=record.key, partition=record.partition, offset=record.offset)
