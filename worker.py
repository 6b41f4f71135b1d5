"""The worker: runs the example handler for ``RECADO_TOPIC`` in group ``RECADO_GROUP``; stop it with Ctrl-C."""

import structlog

from recado import Record, Worker

log = structlog.get_logger()
worker = Worker()


@worker.handler()
def handle(record: Record) -> None:
    """Log what the record says. Returning is done; raising tries again."""
    log.info("received", text=record.text(), key=record.key, partition=record.partition, offset=record.offset)


if __name__ == "__main__":
    worker.run()
