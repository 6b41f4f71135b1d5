"""How long `recado where` and `recado verify` take, cold, in a topic of millions: python -m benchmarks.tracking [N]."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from uuid_utils import uuid7

from recado.embedded import EmbeddedKafka
from recado.kafka.admin import Admin
from recado.settings import Settings

#: Records in the topic.
COUNT = 10_000_000

#: Of so many the id is kept, to be asked for: in the middle of all.
ASKED = 5

PARTITIONS = 3


def run(bootstrap: str, count: int) -> list[str]:
    """Measure and return the lines of a table."""
    topic, group = f"bench-{uuid.uuid4().hex[:8]}", f"bench-{uuid.uuid4().hex[:8]}"
    Admin(Settings(bootstrap_servers=bootstrap)).create_topic(topic, partitions=PARTITIONS)
    ids = _fill(bootstrap, topic, count)
    _commit(bootstrap, topic, group)
    of = ["--bootstrap-servers", bootstrap]
    where_s = [_took(["where", id_, "--topic", topic, *of]) for id_ in ids]
    verify_s = [_took(["verify", "--group", group, "--topic", topic, *of]) for _ in range(ASKED)]
    read_s = _took(["verify", "--group", group, "--topic", topic, "--read", *of])
    bare_s = _took(["--help"])
    return [
        f"where, cold, among {count:,}: {_shown(where_s)} (the program alone: {bare_s:.2f} s)",
        f"verify, cold, of {count:,}: {_shown(verify_s)}; with --read {read_s:.1f} s, {count / read_s:,.0f} records/s",
    ]


def _fill(bootstrap: str, topic: str, count: int) -> list[str]:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "compression.type": "lz4"})
    ids = []
    for number in range(count):
        id_ = str(uuid7())
        if count // 2 <= number < count // 2 + ASKED:
            ids.append(id_)
        while True:
            try:
                producer.produce(topic, b"x" * 100, b"%d" % (number % 1000), headers=[("recado-id", id_.encode())])
                break
            except BufferError:
                producer.poll(0.05)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush(120)
    return ids


def _commit(bootstrap: str, topic: str, group: str) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
    moved = [TopicPartition(topic, place.partition, end) for place, end in zip(places, ends, strict=True)]
    consumer.commit(offsets=moved, asynchronous=False)
    consumer.close()


def _took(words: list[str]) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "recado", *words], check=True, capture_output=True)
    return time.monotonic() - began


def _shown(seconds: list[float]) -> str:
    return " · ".join(f"{one:.2f}" for one in sorted(seconds)) + " s"


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as place,
        EmbeddedKafka(Path(place), java_env=os.environ, port=0, host="127.0.0.1") as kafka,
    ):
        print("\n".join(run(kafka.bootstrap_servers, int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)))
