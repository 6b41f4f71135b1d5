"""What keeping its word costs a worker: offset map, deduplication, sending, transactions, processes; as ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path

from benchmarks.worker import fill, produce
from recado import Record, Worker
from recado.embedded import EmbeddedKafka
from recado.outcomes.offsets import OffsetTracker
from recado.settings import Settings

#: Records of 100 bytes of a measurement, and of those that write something for each record.
RECORDS = 600_000
WRITING = 60_000

#: Members take so long, in seconds, until each has its share.
JOINING_S = 12.0

#: Records that are computed: some ten seconds' worth.
COMPUTING = 40_000

#: Where one record of each partition is slow: less than may be done ahead of it.
BESIDE_A_SLOW_ONE = 240_000

#: Pairs of runs with and without a map: one lasts a second or two, and tells little alone.
PAIRS = 7

#: Threads of a handler.
THREADS = 16

#: Loops of a record of the handler that only computes: about a millisecond.
LOOPS = 20_000


def measure(what: str, bootstrap: str, topic: str, out: str, records: int) -> float:
    """Handle so many records in one way; records per second."""
    folder = tempfile.mkdtemp()
    settings = Settings(bootstrap_servers=bootstrap, worker_port=0, log_level="error", data_dir=Path(folder))
    worker = Worker(uuid.uuid4().hex, settings=settings)
    counter, ended = iter(range(1, 10**12)).__next__, threading.Event()
    times: dict[int, float] = {}
    if what.startswith("no map"):
        OffsetTracker.map_text = lambda self, position: ""
    slow = what.endswith("slow")

    def count(record: Record) -> None:
        number = counter()
        if number in (1, records - 3 * slow):
            times[number] = time.perf_counter()
            if number > 1:
                ended.set()
                worker.stop()

    def handle(record: Record):
        if slow and record.offset == 0:
            ended.wait(200)  # all that comes after it is done ahead of it
            return None
        count(record)
        return Record(b"y", out) if what in ("sends", "exactly once") else None

    options = {
        "exactly once": {"exactly_once": True},
        "deduplicate": {"deduplicate": timedelta(hours=24)},
    }.get(what, {})
    # With an order by key all records of its key would wait for the slow one.
    worker.handler(topic, concurrency=THREADS, order="none" if slow else "key", **options)(handle)
    guard = threading.Timer(200, worker.stop)
    guard.daemon = True
    guard.start()
    worker.run()
    first, last = times[1], max(times.values())
    return (records - 3 * slow) / (last - first)


def computing(bootstrap: str, records: int, processes: int) -> float:
    """A handler that only computes, in so many worker processes that are all there; records per second of all."""
    topic = fill(bootstrap, 4, 0)
    folder = Path(tempfile.mkdtemp())
    program = f"""
import os, time
from recado import Record, Worker
journal = os.open({str(folder / "journal")!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
worker = Worker({uuid.uuid4().hex!r})
@worker.handler({topic!r})
def handle(record: Record) -> None:
    sum(range({LOOPS}))
    os.write(journal, b"%f\\n" % time.time())
"""
    (folder / "jobs.py").write_text(program)
    environment = {**os.environ, "RECADO_BOOTSTRAP_SERVERS": bootstrap, "RECADO_WORKER_PORT": "0"}
    command = [sys.executable, "-m", "recado", "worker", "jobs.py", "--processes", str(processes)]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    time.sleep(JOINING_S)
    produce(bootstrap, topic, records)
    deadline = time.monotonic() + 200
    lines: list[str] = []
    while len(lines) < records and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = (folder / "journal").read_text().split() if (folder / "journal").exists() else []
    running.terminate()
    running.wait(40)
    moments = sorted(map(float, lines))
    # Before any of them has run out of records: partitions differ by what chance gives them.
    low, high = int(len(moments) * 0.1), int(len(moments) * 0.7)
    return (high - low) / (moments[high] - moments[low])


def run(bootstrap: str, rounds: int = 2) -> list[str]:
    """Measure, print and return the lines of a table."""
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(f"  {line}", flush=True)

    fewer = fill(bootstrap, 3, BESIDE_A_SLOW_ONE)
    topic, few, out = fill(bootstrap, 3, RECORDS), fill(bootstrap, 3, WRITING), fill(bootstrap, 3, 0)
    for _ in range(rounds):
        for base, other, records, of in (
            ("no map", "map", RECORDS, topic),
            ("no map, one slow", "map, one slow", BESIDE_A_SLOW_ONE, fewer),
        ):
            pairs = [[_alone(what, bootstrap, of, out, records) for what in (base, other)] for _ in range(PAIRS)]
            ratios = sorted(rate / without for without, rate in pairs)
            rate, ratio = statistics.median(rate for _, rate in pairs), statistics.median(ratios)
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}, {PAIRS} pairs"
            say(f"{other}: {rate:,.0f} records/s, {ratio:.2f} of {base} (medians; {spread})")
        plain = _alone("plain", bootstrap, few, out, WRITING)
        for what in ("deduplicate", "sends", "exactly once"):
            rate = _alone(what, bootstrap, few, out, WRITING)
            say(f"{what}: {rate:,.0f} records/s, {rate / plain:.2f} of a handler that does nothing")
        one, two = (computing(bootstrap, COMPUTING, processes) for processes in (1, 2))
        say(f"a handler that computes, 2 processes on {os.cpu_count()} cores: {two:,.0f}/s, {two / one:.2f} of one")
    return lines


def _alone(what: str, bootstrap: str, topic: str, out: str, records: int) -> float:
    command = [sys.executable, "-m", "benchmarks.keeping", what, bootstrap, topic, out, str(records)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def main(arguments: list[str]) -> None:
    """`python -m benchmarks.keeping`: on a Kafka of its own."""
    if arguments:
        what, bootstrap, topic, out, records = arguments
        print(json.dumps(measure(what, bootstrap, topic, out, int(records))))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka(Path(folder), java_env=os.environ, port=0, host="127.0.0.1") as kafka,
    ):
        run(kafka.bootstrap_servers)


if __name__ == "__main__":
    main(sys.argv[1:])
