"""A million dead letters: how soon the newest are listed, how long all take by kind, and in how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Producer

from recado.embedded import EmbeddedKafka
from recado.kafka.abstract import Message
from recado.kafka.admin import Admin
from recado.kafka.memory import MemoryMessage
from recado.kafka.scan import Range
from recado.letters.filter import Filter
from recado.letters.listing import NEWEST, listing
from recado.outcomes.dead_letter import Cause, dead_letter
from recado.outcomes.group_topics import CONFIG, dead_letter_topic
from recado.outcomes.history import Failure, began, failed
from recado.record import Outgoing
from recado.settings import Settings
from recado.tracking.look import Look

#: Dead letters, their kinds, and the partitions that they lie in.
LETTERS, KINDS, PARTITIONS = 1_000_000, 20, 3

#: The source topic, and a record's value.
TOPIC, VALUE = "orders", b"x" * 100

#: A stack as long as usual: a dozen frames with their lines.
STACK = "".join(
    f'  File "/srv/shop/module_{n}.py", line {n * 37}, in function_{n}\n' + "    " + "x" * 90 for n in range(12)
)


def bury(bootstrap: str, group: str, letters: int = LETTERS) -> None:
    """Write letters as a worker does, with all headers and a stack."""
    name = dead_letter_topic(group, TOPIC)
    Admin(Settings(bootstrap_servers=bootstrap)).create_topic(name, partitions=PARTITIONS, config=CONFIG)
    records = [letter(group, number) for number in range(KINDS)]
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "compression.type": "lz4"})
    for number in range(letters):
        record = records[number % KINDS]
        while True:
            try:
                producer.produce(
                    name, record.value, b"%d" % (number % 1000), number % PARTITIONS, headers=record.headers
                )
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(300):
        raise SystemExit("Kafka did not take all letters.")


def measure(bootstrap: str, group: str, what: str) -> str:
    """Measure one way of listing in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.letters", bootstrap, group, what],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ran.stdout.strip()


def run(bootstrap: str) -> list[str]:
    """Measure and return the lines of a table."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    bury(bootstrap, group)
    return [f"letters: {measure(bootstrap, group, what)}" for what in ("newest", "newest", "all", "key")]


def letter(group: str, number: int, partition: int = 0) -> Outgoing:
    """One as a worker writes it; ``number`` is its record's offset."""
    source = MemoryMessage(Outgoing(TOPIC, VALUE, id=f"id-{number}", key=b"k"), partition, number, 5_000)
    history = failed(began(source, group), *[Failure(1_000, "away")] * 6)
    return dead_letter(source, history, _error(number % KINDS), partition=partition)


def all_of(look: Look, topic: str) -> Iterator[Message]:
    """Every record of a topic."""
    ends = look.admin.ends(look.partitions(topic))
    return look.read({where: Range(0, end) for where, end in ends.items()})


def _error(number: int) -> Cause:
    name, place = f"shop.pay.Error{number}", f"shop.pay.charge_{number}"
    return Cause("attempt 6 of 6 failed", name, f"order {number}: no route", STACK, f"{name} in {place}")


def _most_mib() -> float:
    """The most memory that this process had resident; ``ru_maxrss`` may be that of who started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _one(bootstrap: str, group: str, what: str) -> None:
    before_mib = _most_mib()
    began_s, cpu_s = time.monotonic(), time.process_time()
    wanted = Filter(key="17") if what == "key" else Filter()
    found = listing(
        Look(Settings(bootstrap_servers=bootstrap)), group, wanted, limit=NEWEST if what == "newest" else None
    )
    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    most_mib = _most_mib()
    print(
        f"{what}: total {found.total:,}, read {found.read:,}, matched {found.matched:,}, {len(found.kinds)} kinds in "
        f"{took_s * 1000:,.0f} ms ({cpu_s * 1000:,.0f} ms CPU), {most_mib:.0f} MiB resident at most "
        f"({before_mib:.0f} before)"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _one(*sys.argv[1:])
        sys.exit()
    with (
        tempfile.TemporaryDirectory() as place,
        EmbeddedKafka(Path(place), java_env=os.environ, port=0, host="127.0.0.1") as kafka,
    ):
        print("\n".join(run(kafka.bootstrap_servers)))
