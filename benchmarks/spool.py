"""The spool: records that are only written down, an outage at a steady rate, a start with a large backlog."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks import load, servers
from recado.embedded import EmbeddedKafka
from recado.gateway.spool.store import Store, encoded
from recado.kafka.admin import Admin
from recado.record import Outgoing
from recado.settings import Settings

#: How long one measurement lasts, in seconds, and how often each has its turn.
SECONDS = 4.0
ROUNDS = 3

#: An outage: requests per second, sent by so many connections.
RATE = 500
SENDERS = 10

#: Records of a backlog, and rows in one commit while it is made.
BACKLOG = 1_000_000
COMMIT = 10_000


def run(kafka: EmbeddedKafka, folder: Path, *, outage_s: float) -> list[str]:
    """Measure and return lines for a person."""
    return [
        *_written_down(kafka, folder / "written"),
        *_outage(kafka, folder / "outage", outage_s),
        *_backlog(kafka, folder / "backlog"),
    ]


def _topic(kafka: EmbeddedKafka) -> str:
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    Admin(Settings(bootstrap_servers=kafka.bootstrap_servers)).create_topic(topic, partitions=3)
    return topic


def _server(kafka: EmbeddedKafka, topic: str, folder: Path) -> tuple[str, list[str], dict[str, str], int]:
    name, command, environment, port = servers.recado(kafka.bootstrap_servers, topic)
    return name, command, {**environment, "RECADO_DATA_DIR": str(folder)}, port


def _written_down(kafka: EmbeddedKafka, folder: Path) -> list[str]:
    topic = _topic(kafka)
    body = b'{"message":"' + b"x" * 100 + b'","topic":"' + topic.encode() + b'"}'
    kinds = {"200": {}, "202": {"Prefer": "respond-async"}}
    rows: dict[str, list[load.Result]] = {status: [] for status in kinds}
    with servers.serving(*_server(kafka, topic, folder)) as server:
        for turn in range(ROUNDS + 1):
            for status, prefer in kinds.items():
                request = load.request_bytes("/send", body, {"Content-Type": "application/json", **prefer})
                result = load.run(server.port, request, connections=64, seconds=SECONDS if turn else 1.0)
                _flush(server.port)
                if set(result.statuses) != {status}:
                    raise RuntimeError(f"answers {result.statuses}")
                if turn:
                    rows[status].append(result)
    return [
        f"64 connections, {status}: {statistics.median(r.rate for r in results):,.0f} req/s, "
        f"p50 {statistics.median(r.percentile_ms(0.5) for r in results):.1f} ms, "
        f"p99 {statistics.median(r.percentile_ms(0.99) for r in results):.1f} ms"
        for status, results in rows.items()
    ]


def _outage(kafka: EmbeddedKafka, folder: Path, outage_s: float) -> list[str]:
    topic = _topic(kafka)
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    with servers.serving(*_server(kafka, topic, folder)) as server:
        _send(server.port, topic, 0, -2)
        kafka.kill(1)
        # The first answers wait for their deadline: until the gateway notices that Kafka is away.
        _send(server.port, topic, 0, -1)
        start = time.monotonic()
        threads = [
            threading.Thread(target=_steady, args=(server.port, topic, n, start, outage_s, statuses, latencies))
            for n in range(SENDERS)
        ]
        for thread in threads:
            thread.start()
        rss = []
        while any(thread.is_alive() for thread in threads):
            time.sleep(max(1.0, outage_s / 20))
            rss.append(server.rss_mib())
            print(f"  outage, {time.monotonic() - start:4.0f} s: {sum(statuses.values()):,} answers, {rss[-1]:.0f} MiB")
        back = time.monotonic()
        kafka.restart_broker(1)
        up = time.monotonic()
        _flush(server.port)
        flushed = time.monotonic()
    latencies.sort()
    there, order = _read_back(kafka, topic)
    p99 = 1000 * latencies[int(0.99 * len(latencies))]
    return [
        (
            f"outage of {outage_s:.0f} s at {RATE} req/s: answers {dict(statuses)}, p99 {p99:.1f} ms, longest "
            f"{1000 * latencies[-1]:.0f} ms, resident {rss[0]:.0f} to {max(rss):.0f} MiB, last {rss[-1]:.0f}"
        ),
        (
            f"  everything in Kafka {flushed - up:.1f} s after its return (Kafka's own start took {up - back:.1f} s); "
            f"{there:,} records there of {sum(statuses.values()) + 2:,}, keys out of order: {order}"
        ),
    ]


def _steady(
    port: int, topic: str, sender: int, start: float, seconds: float, statuses: Counter[int], latencies: list[float]
) -> None:
    interval, number = SENDERS / RATE, 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while (due := start + number * interval) < start + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        body = json.dumps({"message": str(number), "topic": topic, "key": f"k{sender}"})
        connection.request("POST", "/send", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        latencies.append(time.monotonic() - sent)
        statuses[response.status] += 1
        number += 1


def _send(port: int, topic: str, sender: int, number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps({"message": str(number), "topic": topic, "key": f"first{sender}"})
    connection.request("POST", "/send", body, {"Content-Type": "application/json"})
    connection.getresponse().read()


def _flush(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=700)
    connection.request("POST", "/flush?timeout=600", headers={"Content-Length": "0"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(answer.read().decode())


def _read_back(kafka: EmbeddedKafka, topic: str) -> tuple[int, int]:
    """Count the records of a topic, and those that stand before one that was answered earlier."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "judge", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(3)])
    ended, count, wrong, last = set(), 0, 0, dict[bytes, int]()
    while len(ended) < 3:
        message = consumer.poll(10)
        if message is None:
            raise TimeoutError("Kafka does not answer")
        if message.error():
            ended.add(message.partition())
            continue
        count += 1
        number, key = int(message.value()), message.key()
        wrong += number < last.get(key, -10)
        last[key] = number
    consumer.close()
    return count, wrong


def _backlog(kafka: EmbeddedKafka, folder: Path) -> list[str]:
    topic = _topic(kafka)
    _fill(folder / "spool", topic)
    started = time.monotonic()
    with servers.serving(*_server(kafka, topic, folder)) as server:
        ready = _until_ready(server.port) - started
        forwarding = time.monotonic()
        _flush(server.port)
        took = time.monotonic() - forwarding
        rss = server.rss_mib()
    there, _ = _read_back(kafka, topic)
    return [
        (
            f"start with {BACKLOG:,} records in the spool: ready after {ready:.1f} s (process start included), "
            f"forwarded in {took:.1f} s ({BACKLOG / took:,.0f} records/s), {there:,} in Kafka, resident {rss:.0f} MiB"
        )
    ]


def _fill(directory: Path, topic: str) -> None:
    directory.mkdir(parents=True)
    store = Store(directory / "spool-1.db")
    for first in range(0, BACKLOG, COMMIT):
        with store.transaction():
            number = store.topic_number(topic)
            after = store.highest(number) + 1
            rows = []
            for index in range(COMMIT):
                record_id = str(uuid.uuid4())
                value = str(first + index).encode()
                record = Outgoing(topic, value, record_id, b"k%d" % (index % 100), [("recado-id", record_id.encode())])
                rows.append((after + index, encoded(record)))
            store.add(rows, time.time_ns() // 1_000_000)
    store.close()


def _until_ready(port: int) -> float:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health/ready")
        if connection.getresponse().status == 200:
            return time.monotonic()
        time.sleep(0.02)


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as temporary,
        EmbeddedKafka(Path(temporary) / "kafka", java_env=os.environ, port=0, host="127.0.0.1") as embedded,
    ):
        seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
        print("\n".join(run(embedded, Path(temporary), outage_s=seconds)))
