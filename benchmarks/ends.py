"""100,000 records that are done, fail once, fail always or cannot be read, under kills: do the books balance?"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from benchmarks.letters import all_of
from recado.embedded import EmbeddedKafka
from recado.kafka.admin import Admin
from recado.outcomes.group_topics import dead_letter_topic
from recado.settings import Settings
from recado.tracking.look import Look

#: Records, sent so many a second, and their keys.
RECORDS, RATE, KEYS = 100_000, 2_000, 1_000

#: How often one of the two workers is killed, and after how many seconds at least and at most.
KILLS, AFTER_S = 5, (5.0, 9.0)

#: How long the last ones may take after all was sent, in seconds.
PATIENCE_S = 180.0

#: 5 % fail always, 10 % once (also where a worker was killed since), 1 % cannot be read.
WORKER = """
import os, time
from recado import Backoff, Worker

journal = os.open("journal", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
failed = {line.split()[1] for line in open("journal") if line.startswith("failed ") and line.endswith("\\n")}
worker = Worker()

def note(what, number):
    os.write(journal, f"{what} {number}\\n".encode())

@worker.handler("TOPIC", concurrency=8, retry=Backoff(first_s=2, factor=1, jitter=0, attempts=4))
def handle(job: dict) -> None:
    number = job["number"]
    time.sleep(0.001)
    if number % 20 == 7:
        raise ConnectionError("always")
    if number % 10 == 3 and str(number) not in failed:
        failed.add(str(number))
        note("failed", number)
        raise TimeoutError("once")
    note("done", number)

if __name__ == "__main__":
    worker.run()
"""


def is_undecodable(number: int) -> bool:
    """Whether a record cannot be read; which of the others fail stands in ``WORKER``."""
    return number % 100 == 50


def run(bootstrap: str, folder: Path) -> list[str]:
    """Measure and return the lines of a table."""
    group, topic = f"ends-{uuid.uuid4().hex[:8]}", f"bench-{uuid.uuid4().hex[:8]}"
    settings = Settings(bootstrap_servers=bootstrap)
    Admin(settings).create_topic(topic, partitions=6)
    (folder / "jobs.py").write_text(WORKER.replace("TOPIC", topic))
    environment = {
        **os.environ,
        "RECADO_BOOTSTRAP_SERVERS": bootstrap,
        "RECADO_GROUP": group,
        "RECADO_TOPIC": topic,
        "RECADO_WORKER_PORT": "0",
        "RECADO_LOG_LEVEL": "error",
        "RECADO_KAFKA_CONSUMER_SESSION_TIMEOUT_MS": "6000",
    }
    chance, checks, began_s = random.Random(11), list[dict[str, Any]](), time.monotonic()

    def start() -> subprocess.Popen[bytes]:
        with (folder / "worker.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "jobs.py"], cwd=folder, env=environment, stdout=log, stderr=log)

    def check() -> dict[str, Any]:
        command = [sys.executable, "-m", "recado", "verify", "--json", "--group", group, "--topic", topic]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not found.stdout:
            raise SystemExit(found.stderr)
        checks.append(json.loads(found.stdout))
        return checks[-1]

    workers = [start(), start()]
    try:
        kills, kill_at_s = 0, time.monotonic() + chance.uniform(*AFTER_S)

        def kill_some() -> None:
            nonlocal kills, kill_at_s
            if kills < KILLS and time.monotonic() >= kill_at_s:
                at = kills % 2
                workers[at].kill()
                workers[at].wait()
                workers[at] = start()
                kills, kill_at_s = kills + 1, time.monotonic() + chance.uniform(*AFTER_S)
                check()

        _send(bootstrap, topic, kill_some)
        sent_s = time.monotonic()
        while time.monotonic() - sent_s < PATIENCE_S:
            kill_some()
            total = check()["total"]
            if not total["not_handled"] and not total["retrying"] and kills == KILLS:
                break
            time.sleep(2)
        took_s = time.monotonic() - began_s
        for worker in workers:
            worker.terminate()
        codes = [worker.wait(60) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    look = Look(settings)
    lag = sum(one.lag or 0 for where, one in look.lags(group).items() if where.topic == topic)
    lines = (folder / "journal").read_text().splitlines()
    done = Counter(int(line.split()[1]) for line in lines if line.startswith("done "))
    dead = Counter(_dead(look, dead_letter_topic(group, topic)))
    wanted = {number for number in range(RECORDS) if is_undecodable(number) or number % 20 == 7}
    both, neither = done.keys() & dead.keys(), RECORDS - len(done.keys() | dead.keys())
    unbalanced = sum(not one["balanced"] for one in checks)
    return [
        f"ends: {RECORDS:,} records, {kills} kills, {took_s:.0f} s, exits {codes}; lag {lag}",
        f"      ledger: {len(checks)} checks meanwhile, {unbalanced} did not balance; at the end {checks[-1]['total']}",
        (
            f"      journal: {len(done):,} done ({sum(done.values()) - len(done)} again after a kill), "
            f"{len(dead):,} dead ({sum(dead.values()) - len(dead)} twice), {len(both)} both, "
            f"{neither} neither, {len(dead.keys() ^ wanted)} with another end than theirs"
        ),
    ]


def _send(bootstrap: str, topic: str, meanwhile: Callable[[], None]) -> None:
    producer, began_s = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5}), time.monotonic()
    for number in range(RECORDS):
        value = b"{broken %d" % number if is_undecodable(number) else b'{"number": %d}' % number
        producer.produce(topic, value, b"%d" % (number % KEYS))
        producer.poll(0)
        while number / RATE > time.monotonic() - began_s:
            meanwhile()
            time.sleep(0.005)
    if producer.flush(60):
        raise SystemExit("Kafka did not take all records.")


def _dead(look: Look, topic: str) -> list[int]:
    return [int((message.value() or b"").strip(b'{"}').split()[-1]) for message in all_of(look, topic)]


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as place,
        tempfile.TemporaryDirectory() as work,
        EmbeddedKafka(Path(place), java_env=os.environ, port=0, host="127.0.0.1") as kafka,
    ):
        print("\n".join(run(kafka.bootstrap_servers, Path(work))))
