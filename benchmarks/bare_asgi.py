"""What is compared with: a bare ASGI function that does the same produce and nothing else, on the same server.

No checks, no ids, no metrics, no second route. ``LINGER_MS`` chooses the producer's one fixed linger.
"""

from __future__ import annotations

import asyncio
import os
import threading

import msgspec
import uvloop
from confluent_kafka import Producer
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

producer = Producer(
    {
        "bootstrap.servers": os.environ["BOOTSTRAP"],
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": float(os.environ.get("LINGER_MS", "2")),
    }
)
loop: asyncio.AbstractEventLoop
reports: list = []


def serve_reports() -> None:
    while True:
        producer.poll(0.1)


def resolve() -> None:
    batch, reports[:] = reports[:], []
    for future, partition, offset in batch:
        if not future.done():
            future.set_result((partition, offset))


async def app(scope, receive, send):
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    request = msgspec.json.decode(body)
    future = loop.create_future()

    def report(error, message):
        reports.append((future, message.partition(), message.offset()))
        if len(reports) == 1:
            loop.call_soon_threadsafe(resolve)

    producer.produce(request["topic"], request["message"].encode(), on_delivery=report)
    partition, offset = await future
    answer = msgspec.json.encode({"partition": partition, "offset": offset})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def main() -> None:
    global loop
    loop = asyncio.get_running_loop()
    threading.Thread(target=serve_reports, daemon=True).start()
    server = Server(
        app,
        address="127.0.0.1",
        port=int(os.environ["PORT"]),
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        backpressure=4096,
        log_enabled=False,
    )
    await server.serve()


if __name__ == "__main__":
    uvloop.run(main())
