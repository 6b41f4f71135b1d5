"""Delayed records: how late they land, judged by the broker's clock in the target, and whether one is early."""

from __future__ import annotations

import http.client
import json
import time
import uuid

from confluent_kafka import Consumer, TopicPartition

from benchmarks import servers
from recado.kafka.admin import Admin
from recado.settings import Settings

RECORDS = 100_000

#: Records in one request.
BATCH = 5000

#: From the first request to the first record that is due, in milliseconds: all are waiting by then.
AHEAD_MS = 40_000

#: Over how long the records fall due, in milliseconds: within a minute, within two seconds, at one moment.
SPREADS_MS = (60_000, 2000, 0)

#: How long to wait for the last one after it was due, in seconds.
PATIENCE_S = 120.0


def run(bootstrap: str) -> list[str]:
    """Measure and return the lines of a table."""
    lines = []
    admin = Admin(Settings(bootstrap_servers=bootstrap))
    with servers.serving(*servers.recado(bootstrap, "unused")) as server:
        for spread_ms in SPREADS_MS:
            topic = f"bench-{uuid.uuid4().hex[:8]}"
            admin.create_topic(topic, partitions=3, config={"message.timestamp.type": "LogAppendTime"})
            lines.append(_measure(server, bootstrap, topic, spread_ms))
            print("  " + lines[-1], flush=True)
    return lines


def _measure(server: servers.Running, bootstrap: str, topic: str, spread_ms: int) -> str:
    start_ms = time.time_ns() // 1_000_000 + AHEAD_MS
    cpu_s, peak_mib = server.cpu_s(), 0.0
    for first in range(0, RECORDS, BATCH):
        _send(server.port, topic, [start_ms + spread_ms * n // RECORDS for n in range(first, first + BATCH)])
    sent_ms = time.time_ns() // 1_000_000
    if sent_ms > start_ms:
        raise RuntimeError(f"sending took {AHEAD_MS + sent_ms - start_ms} ms: not all were waiting")
    while time.time_ns() // 1_000_000 < start_ms + spread_ms + 3000:
        peak_mib = max(peak_mib, server.rss_mib())
        time.sleep(0.2)
    late = sorted(_lateness_ms(bootstrap, topic))
    p50, p99, p999 = (late[int(len(late) * share)] for share in (0.5, 0.99, 0.999))
    return (
        f"delay: {RECORDS:,} records due within {spread_ms / 1000:g} s | late p50 {p50} ms, p99 {p99} ms, "
        f"p99.9 {p999} ms, max {late[-1]} ms | early {sum(ms < 0 for ms in late)} | landed {len(late):,} | "
        f"gateway: CPU {server.cpu_s() - cpu_s:.1f} s, peak {peak_mib:.0f} MiB"
    )


def _send(port: int, topic: str, dues_ms: list[int]) -> None:
    body = b"".join(
        json.dumps({"message": f"{due:013d}" + "x" * 87, "topic": topic, "deliver_at": due}).encode() + b"\n"
        for due in dues_ms
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/send", body, {"Content-Type": "application/x-ndjson", "Prefer": "return=minimal"})
    response = connection.getresponse()
    summary = json.loads(response.read())
    connection.close()
    if response.status != 202:
        raise RuntimeError(f"{response.status}: {summary}")


def _lateness_ms(bootstrap: str, topic: str) -> list[int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(3)])
    late: list[int] = []
    deadline = time.monotonic() + PATIENCE_S
    quiet = 0
    while (len(late) < RECORDS or quiet < 10) and time.monotonic() < deadline:
        found = [message for message in consumer.consume(5000, 0.2) if message.error() is None]
        quiet = 0 if found else quiet + 1
        late += [message.timestamp()[1] - int(message.value()[:13]) for message in found]
    consumer.close()
    return late
