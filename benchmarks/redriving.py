"""A redrive of 100,000 dead letters that is killed and resumed: is each brought back once, in order per key?"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.letters import PARTITIONS, TOPIC, all_of, letter
from recado.embedded import EmbeddedKafka
from recado.kafka.admin import Admin
from recado.outcomes.group_topics import CONFIG, dead_letter_topic, retry_topic
from recado.outcomes.history import history_of
from recado.settings import Settings
from recado.tracking.look import Look

#: Dead letters, their keys, and how often the redrive is interrupted (by turns killed and told to stop).
LETTERS, KEYS, TIMES = 100_000, 1_000, 6

#: After how many seconds it is interrupted, at least and at most.
AFTER_S = (1.5, 4.0)

#: Exit code of one that was told to stop.
STOPPED = 3


def run(bootstrap: str) -> list[str]:
    """Measure and return the lines of a table."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    _bury(bootstrap, group)
    chance, began_s, codes = random.Random(7), time.monotonic(), []
    more, stops_s = ["--all"], []
    for turn in range(TIMES):
        process = _redrive(bootstrap, group, more)
        more = ["--resume"]
        try:
            codes.append(process.wait(chance.uniform(*AFTER_S)))
            break
        except subprocess.TimeoutExpired:
            asked_s = time.monotonic()
            process.send_signal(signal.SIGKILL if turn % 2 else signal.SIGTERM)
            codes.append(process.wait())
            if codes[-1] == STOPPED:
                stops_s.append(time.monotonic() - asked_s)
    codes.append(_redrive(bootstrap, group, ["--resume"]).wait())
    took_s = time.monotonic() - began_s
    look = Look(Settings(bootstrap_servers=bootstrap))
    came: Counter[tuple[int, int]] = Counter()
    last: dict[bytes, int] = {}
    back = 0
    for message in all_of(look, retry_topic(group, TOPIC)):
        history = history_of(message)
        assert history is not None
        came[history.partition, history.offset] += 1
        key = message.key() or b""
        back += history.offset <= last.get(key, -1)
        last[key] = history.offset
    twice = sum(number > 1 for number in came.values())
    others = [name for name in look.counts if name.startswith("retry.") and name != retry_topic(group, TOPIC)]
    return [
        f"redrive: {len(came):,} of {LETTERS:,} came back in {took_s:.0f} s over exits {codes} (stops took "
        + ", ".join(f"{stop_s:.2f}" for stop_s in stops_s)
        + f" s); {twice} twice, {LETTERS - len(came)} missing, {back} out of order within their key; "
        + f"other groups' retry topics: {others}"
    ]


def _redrive(bootstrap: str, group: str, more: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "recado", "dead-letters", "redrive", *more, "--no-follow", "--group", group]
    return subprocess.Popen([*command, "--bootstrap-servers", bootstrap], stderr=subprocess.DEVNULL)


def _bury(bootstrap: str, group: str) -> None:
    """Letters of many keys, each key in one partition, as they stood in their topic."""
    admin = Admin(Settings(bootstrap_servers=bootstrap))
    admin.create_topic(TOPIC, partitions=PARTITIONS)
    name = dead_letter_topic(group, TOPIC)
    admin.create_topic(name, partitions=PARTITIONS, config=CONFIG)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "compression.type": "lz4"})
    for number in range(LETTERS):
        key = number % KEYS
        record = letter(group, number, partition=key % PARTITIONS)
        while True:
            try:
                producer.produce(name, record.value, b"%d" % key, key % PARTITIONS, headers=list(record.headers))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit("Kafka did not take all letters.")


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as place,
        EmbeddedKafka(Path(place), java_env=os.environ, port=0, host="127.0.0.1") as kafka,
    ):
        print("\n".join(run(kafka.bootstrap_servers)))
