"""A short torture of workers, as a user runs it; and a worker that commits too early is convicted."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.torture.test_short import environment, processes_of

WORKER = [sys.executable, "-m", "recado", "torture", "worker"]


def run(folder, *arguments: str) -> tuple[int, dict]:
    done = subprocess.run(
        [*WORKER, *arguments, "--json"],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_record_ends_once_in_order_whatever_dies(tmp_path):
    faults = "kill-worker,restart-worker,come-and-go,stop-worker"
    code, report = run(tmp_path, "--seconds", "20", "--seed", "3", "--rate", "200", "--faults", faults)
    assert code == 0, report["checks"]
    assert {check["name"] for check in report["checks"]} >= {"lost", "committed past", "at once", "went back", "again"}
    assert report["figures"]["records"] > 1000
    assert report["figures"]["failed_calls"] > 50
    assert report["figures"]["dead_letters"] > 0
    assert processes_of(tmp_path) == []


#: Counts records as done when they begin.
TOO_EARLY = """
import threading, time
from recado import Record, Worker
worker = Worker()

@worker.handler("mine", concurrency=8)
def handle(record: Record) -> None:
    threading.Thread(target=time.sleep, args=(0.3,)).start()
"""


def test_the_users_own_handlers_are_judged_and_a_worker_that_commits_too_early_is_convicted(tmp_path):
    (tmp_path / "jobs.py").write_text(TOO_EARLY)
    code, report = run(tmp_path, "jobs.py", "--seconds", "8", "--rate", "100", "--faults", "restart-worker")
    assert code == 0, report["checks"]
    sinner = (
        TOO_EARLY
        + """
from recado.outcomes import offsets
offsets.OffsetTracker.position = lambda self: self._last + 1 if self._last >= 0 else None
offsets.OffsetTracker.map_text = lambda self, position: ""
"""
    )
    slow = sinner.replace("threading.Thread(target=time.sleep, args=(0.3,)).start()", "time.sleep(0.2)")
    (tmp_path / "jobs.py").write_text(slow)
    code, report = run(tmp_path, "jobs.py", "--seconds", "8", "--rate", "100", "--faults", "kill-worker")
    broken = {check["name"] for check in report["checks"] if check["broken"]}
    assert code == 1
    assert "committed past" in broken
