"""Retries that wait: how late each comes back, and whether records that do not fail are held back meanwhile."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import uuid
from pathlib import Path

from confluent_kafka import Producer

from recado import Record, Retry, Worker
from recado.embedded import EmbeddedKafka
from recado.kafka.admin import Admin
from recado.settings import Settings

#: Records that fail once, and wait together.
FAILING = 100_000

#: From the failure to the next attempt: the first delay and the last, in seconds.
FIRST_S, LAST_S = 60.0, 120.0

#: Records that do not fail, sent one at a time while the others wait, and the rest between two, in seconds.
GOOD, GOOD_EVERY_S = 500, 0.1

#: How long to wait for the last one after it was due, in seconds.
PATIENCE_S = 120.0


def run(bootstrap: str) -> list[str]:
    """Measure and return the lines of a table."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    Admin(Settings(bootstrap_servers=bootstrap)).create_topic(topic, partitions=3)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(bootstrap_servers=bootstrap, worker_port=0, log_level="error", data_dir=Path(folder))
        worker = Worker(uuid.uuid4().hex, settings=settings)
        due: dict[bytes, float] = {}
        late_s: list[float] = []
        waits_s: list[float] = []

        @worker.handler(topic, concurrency=8, breaker=None)
        def handle(record: Record) -> None:
            name = record.value or b""
            if name.startswith(b"good"):
                waits_s.append(time.time() - float(name[5:]))
            elif record.attempt > 1:
                late_s.append(time.time() - due[name])
            else:
                delay_s = FIRST_S + (LAST_S - FIRST_S) * int(name) / FAILING
                due[name] = time.time() + delay_s
                raise Retry(delay_s=delay_s)

        thread = threading.Thread(target=worker.run, daemon=True)
        began = time.monotonic()
        for number in range(FAILING):
            producer.produce(topic, b"%d" % number, b"%d" % (number % 1000))
            producer.poll(0)
        producer.flush(60)
        thread.start()
        while len(due) < FAILING and time.monotonic() - began < FIRST_S + PATIENCE_S:
            time.sleep(0.1)
        left_s = time.monotonic() - began
        for _ in range(GOOD):
            producer.produce(topic, b"good %.6f" % time.time(), b"good")
            producer.flush(10)
            time.sleep(GOOD_EVERY_S)
        while len(late_s) < FAILING and time.monotonic() - began < LAST_S + left_s + PATIENCE_S:
            time.sleep(0.2)
        worker.stop()
        thread.join(60)
    return [_line(left_s, sorted(late_s), sorted(waits_s))]


def _line(left_s: float, late_s: list[float], waits_s: list[float]) -> str:
    def at(values: list[float], share: float) -> str:
        return f"{values[min(len(values) - 1, int(len(values) * share))] * 1000:.0f} ms"

    return (
        f"retry: {FAILING:,} failed within {left_s:.0f} s, came back {len(late_s):,} | late p50 {at(late_s, 0.5)}, "
        f"p99 {at(late_s, 0.99)}, p99.9 {at(late_s, 0.999)}, max {at(late_s, 1)} | "
        f"early {sum(s < -0.001 for s in late_s)} "
        f"| {len(waits_s)} others meanwhile: p50 {at(waits_s, 0.5)}, p99 {at(waits_s, 0.99)}, max {at(waits_s, 1)}"
    )


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as place,
        EmbeddedKafka(Path(place), java_env=os.environ, port=0, host="127.0.0.1") as kafka,
    ):
        print("\n".join(run(kafka.bootstrap_servers)))
