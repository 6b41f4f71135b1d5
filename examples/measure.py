"""Many records at a time, on an event loop: up to 500, or what came within a second."""

import asyncio

import structlog

from recado import Record, Worker

log = structlog.get_logger()
worker = Worker(group="measure")


@worker.handler("flask-topic", batch=(500, 1.0))
async def store(records: list[Record]) -> None:
    """Pretend to store a batch in one go."""
    await asyncio.sleep(0.01)
    log.info("stored", records=len(records), first=records[0].offset, last=records[-1].offset)


if __name__ == "__main__":
    worker.run()
