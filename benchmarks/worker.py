"""The worker against a bare consume loop: records per second, memory, order. Each measurement is its own process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
import uuid
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

#: Records of 100 bytes in the no-op measurements, and of the sleeping ones for each thread.
RECORDS = 1_500_000
SLEEPING_PER_THREAD = 500

KEYS = 1000
VALUE = b"x" * 100


def fill(bootstrap: str, partitions: int, records: int) -> str:
    """Make a topic with so many records, keys in turn."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[name].result(30)
    produce(bootstrap, name, records)
    return name


def produce(bootstrap: str, name: str, records: int) -> None:
    """Send so many records, keys in turn."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "compression.type": "lz4"})
    for number in range(records):
        while True:
            try:
                producer.produce(name, VALUE, str(number % KEYS))
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()


def bare(bootstrap: str, topic: str, records: int) -> dict[str, float]:
    """consume(1000) and nothing else."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "fetch.queue.backoff.ms": 10,
        }
    )  # fmt: skip
    consumer.subscribe([topic])
    seen, began = 0, 0.0
    while seen < records:
        found = consumer.consume(1000, 0.2)
        if found and not began:
            began = time.perf_counter()
        seen += len(found)
    rate = seen / (time.perf_counter() - began)
    consumer.close()
    return {"rate": rate, **_usage()}


def recado(bootstrap: str, topic: str, records: int, concurrency: int, sleep_s: float) -> dict[str, float]:
    """A handler that does nothing, or sleeps; stops itself after the last record and checks the order of keys."""
    from recado import Worker
    from recado.settings import Settings

    settings = Settings(bootstrap_servers=bootstrap, worker_port=0, log_level="error")
    worker = Worker(uuid.uuid4().hex, settings=settings)
    state = {"began": 0.0, "ended": 0.0}
    counter = iter(range(1, 10**12)).__next__  # atomic under the GIL
    at_work: set[bytes] = set()
    last: dict[bytes, int] = {}
    wrong = []

    def end_after(number: int) -> None:
        if number == 1:
            state["began"] = time.perf_counter()
        if number == records:
            state["ended"] = time.perf_counter()
            worker.stop()

    if sleep_s:

        @worker.handler(topic, concurrency=concurrency)
        def sleeping(record):
            key = record.key or b""
            if key in at_work or record.offset <= last.get(key, -1):
                wrong.append(record.offset)
            at_work.add(key)
            last[key] = record.offset
            time.sleep(sleep_s)
            at_work.discard(key)
            end_after(counter())
    else:

        @worker.handler(topic, concurrency=concurrency)
        def nothing(record):
            end_after(counter())

    guard = threading.Timer(120, worker.stop)
    guard.daemon = True
    guard.start()
    worker.run()
    return {"rate": records / (state["ended"] - state["began"]), "wrong": len(wrong), **_usage()}


def quix(bootstrap: str, topic: str, records: int) -> dict[str, float]:
    """Quix Streams with a function that does nothing."""
    from quixstreams import Application

    app = Application(
        broker_address=bootstrap, consumer_group=uuid.uuid4().hex, auto_offset_reset="earliest", loglevel="ERROR"
    )
    state = {"seen": 0, "began": 0.0, "ended": 0.0}

    def nothing(value: bytes) -> None:
        state["seen"] += 1
        if state["seen"] == 1:
            state["began"] = time.perf_counter()
        if state["seen"] == records:
            state["ended"] = time.perf_counter()
            app.stop()

    app.dataframe(app.topic(topic, value_deserializer="bytes")).update(nothing)
    app.run()
    return {"rate": records / (state["ended"] - state["began"]), **_usage()}


def _usage() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"rss_mib": used.ru_maxrss / 1024, "cpu_s": used.ru_utime + used.ru_stime}


def _alone(python: str, name: str, *arguments: object) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [python, str(Path(__file__)), name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def run(bootstrap: str, other_python: str | None, *, rounds: int = 2, records: int = RECORDS) -> list[str]:
    """Measure, print and return the lines of a table. ``other_python`` has Quix Streams, or is None."""
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(f"  {line}", flush=True)

    topic = fill(bootstrap, 3, records)
    for _ in range(rounds):
        base = _alone(sys.executable, "bare", bootstrap, topic, records)
        say(f"bare consume(1000): {base['rate']:,.0f} records/s, {base['rss_mib']:.0f} MiB")
        for concurrency in (1, 16):
            ours = _alone(sys.executable, "recado", bootstrap, topic, records, concurrency, 0)
            say(
                f"recado, no-op, order=key, concurrency {concurrency}: {ours['rate']:,.0f} records/s "
                f"({ours['rate'] / base['rate']:.2f} of bare), peak {ours['rss_mib']:.0f} MiB"
            )
        if other_python:
            theirs = _alone(other_python, "quix", bootstrap, topic, records // 5)
            say(f"Quix Streams, no-op: {theirs['rate']:,.0f} records/s, peak {theirs['rss_mib']:.0f} MiB")
    if not other_python:
        say("Quix Streams: not installed, skipped")
    one = fill(bootstrap, 1, 64 * SLEEPING_PER_THREAD)
    for concurrency in (16, 64):
        ours = _alone(sys.executable, "recado", bootstrap, one, concurrency * SLEEPING_PER_THREAD, concurrency, 0.001)
        say(
            f"recado, 1 ms handler, one partition, {KEYS} keys, concurrency {concurrency}: "
            f"{ours['rate']:,.0f} records/s ({ours['rate'] * 0.001 / concurrency:.2f} of ideal), "
            f"keys overlapping or going back: {ours['wrong']:.0f}"
        )
    return lines


def _measure(what: str, bootstrap: str, topic: str, records: str, *rest: str) -> dict[str, float]:
    if what == "bare":
        return bare(bootstrap, topic, int(records))
    if what == "quix":
        return quix(bootstrap, topic, int(records))
    return recado(bootstrap, topic, int(records), int(rest[0]), float(rest[1]))


def main(arguments: list[str]) -> None:
    """`python benchmarks/worker.py [BOOTSTRAP [PYTHON]]`: without an address on a Kafka of its own.

    PYTHON is one that has Quix Streams; without, this one is taken if it has.
    """
    if len(arguments) > 2:
        print(json.dumps(_measure(*arguments)))
        return
    other = arguments[1] if len(arguments) > 1 else sys.executable if find_spec("quixstreams") else None
    if arguments:
        run(arguments[0], other)
        return
    from recado.embedded import EmbeddedKafka

    with TemporaryDirectory() as folder:
        kafka = EmbeddedKafka(Path(folder), port=0, java_env=os.environ)
        kafka.start()
        try:
            run(kafka.bootstrap_servers, other)
        finally:
            kafka.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
