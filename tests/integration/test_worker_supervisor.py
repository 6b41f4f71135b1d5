"""The supervisor with real processes: kept alive, ended in order, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recado import supervisor as module
from recado.supervisor import Program, Supervisor
from tests.programs import ROOT, eventually

#: Says that it runs, and on SIGTERM says so and ends with 0; `stubborn` needs to be told twice, `deaf` to be killed.
CHILD = """
import os, signal, sys, threading
kind = sys.argv[1]
told = []
def on_term(number, frame):
    told.append(number)
    print("told", len(told), flush=True)
signal.signal(signal.SIGTERM, on_term)
print("runs", os.getpid(), flush=True)
needed = {"willing": 1, "stubborn": 2, "deaf": 1000}[kind]
while len(told) < needed:
    signal.pause()
print("last words", flush=True)
sys.exit(3 if len(told) > 1 else 0)
"""


class Log:
    """What the children wrote, in the order in which it came."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def has(self, name: str, start: str) -> bool:
        return self.count(name, start) > 0

    def count(self, name: str, start: str) -> int:
        return sum(line.startswith(start) for who, line in self.lines if who == name)

    def at(self, name: str, start: str) -> int:
        return next(i for i, (who, line) in enumerate(self.lines) if who == name and line.startswith(start))

    def pid(self, name: str) -> int:
        return int([line for who, line in self.lines if who == name and line.startswith("runs")][-1].split()[1])


def program(name: str, code: str, *arguments: str, crew: str = "") -> Program:
    return Program(name, [sys.executable, "-c", code, *arguments], dict(os.environ), crew)


class Running:
    """A supervisor at work in a thread of its own."""

    def __init__(self, programs: list[Program], drain_s: float, *, reload: bool = False) -> None:
        self.log = Log()
        self.stop, self.hurry = threading.Event(), threading.Event()
        self.reload = threading.Event() if reload else None
        self.code: int | None = None
        self._supervisor = Supervisor(programs, on_line=self.log, drain_s=drain_s)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.code = self._supervisor.run(self.stop, hurry=self.hurry, reload=self.reload)

    def wait(self, within_s: float = 30) -> int | None:
        self._thread.join(within_s)
        assert not self._thread.is_alive(), self.log.lines
        return self.code


@pytest.fixture
def supervise(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    monkeypatch.setattr(module, "GRACE_S", 0.5)
    started: list[Running] = []

    def start(*programs: Program, drain_s: float = 20, reload: bool = False) -> Running:
        started.append(Running(list(programs), drain_s, reload=reload))
        return started[-1]

    yield start
    for running in started:
        running.stop.set()
        running.hurry.set()
        running.wait()


def test_programs_end_one_after_the_other_and_their_last_words_are_kept(supervise):
    running = supervise(program("gateway", CHILD, "willing"), program("worker", CHILD, "willing"))
    eventually(lambda: running.log.has("gateway", "runs") and running.log.has("worker", "runs"))
    running.stop.set()
    assert running.wait() == 0
    assert running.log.has("worker", "last words")
    assert running.log.at("gateway", "last words") < running.log.at("worker", "told 1")


def test_a_crew_is_ended_together(supervise):
    names = ["worker-1", "worker-2", "worker-3"]
    running = supervise(*[program(name, CHILD, "stubborn", crew="worker") for name in names])
    eventually(lambda: all(running.log.has(name, "runs") for name in names))
    running.stop.set()
    eventually(
        lambda: all(running.log.has(name, "told 1") for name in names)
    )  # none has ended: each waits for a second
    running.hurry.set()
    assert running.wait() == 3
    assert all(running.log.has(name, "last words") for name in names)


def test_who_does_not_end_in_time_is_killed_and_counts_as_work_left_behind(supervise):
    running = supervise(program("deaf", CHILD, "deaf"), drain_s=0.1)
    eventually(lambda: running.log.has("deaf", "runs"))
    pid = running.log.pid("deaf")
    running.stop.set()
    assert running.wait() == 3
    assert running.log.has("deaf", "did not end in time")
    assert not Path(f"/proc/{pid}").exists()


def test_who_dies_is_started_again_after_a_rest_that_doubles(supervise):
    running = supervise(program("worker", CHILD, "willing"))
    for deaths, rest in ((1, "0.5 s"), (2, "1 s")):
        eventually(lambda deaths=deaths: running.log.count("worker", "runs") == deaths)
        os.kill(running.log.pid("worker"), signal.SIGKILL)
        line = f"ended (signal SIGKILL); starting it again in {rest}"
        eventually(lambda line=line: running.log.has("worker", line), why=str(running.log.lines))
    eventually(lambda: running.log.count("worker", "runs") == 3)


def test_who_cannot_run_as_it_is_set_up_ends_the_others_too(supervise):
    good, bad = program("good", CHILD, "willing"), program("bad", "print('no such topic'); raise SystemExit(2)")
    running = supervise(good, bad)
    assert running.wait() == 2
    assert running.log.count("bad", "no such topic") == 1


def test_after_a_change_everything_starts_anew_even_what_could_not_run(supervise, tmp_path):
    code = f"import sys; sys.argv[1:] = ['willing']; exec(open({str(tmp_path / 'code.py')!r}).read())"
    (tmp_path / "code.py").write_text("print('a mistake'); raise SystemExit(2)")
    running = supervise(program("worker", code), reload=True)
    eventually(lambda: running.log.has("worker", "a mistake"))
    (tmp_path / "code.py").write_text(CHILD)
    running.reload.set()
    eventually(lambda: running.log.has("worker", "runs"))
    assert running.log.count("worker", "a mistake") == 1
    running.reload.set()
    eventually(lambda: running.log.count("worker", "runs") == 2)
    assert running.log.count("worker", "last words") == 1
    running.stop.set()
    assert running.wait() == 0


PARENT = f"""
import os, sys, threading
from recado.supervisor import Program, Supervisor
child = Program("child", [sys.executable, "-c", {CHILD!r}, "willing"], dict(os.environ))
Supervisor([child], on_line=lambda name, line: print(line, flush=True), drain_s=5).run(threading.Event())
"""


def test_children_end_when_their_parent_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        assert os.getsid(pid) != os.getsid(parent.pid)  # Ctrl-C in the terminal reaches the parent alone
        parent.kill()
        parent.wait(10)
        eventually(lambda: not runs(pid), within_s=10, why="the child outlived its parent")


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_signal_while_it_waits_cannot_hang_it():
    code = f"""
import os, signal, sys, threading
from recado.supervisor import Program, Supervisor
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
child = Program("child", [sys.executable, "-c", {CHILD!r}, "willing"], dict(os.environ))
sys.exit(Supervisor([child], on_line=lambda name, line: print(line, flush=True), drain_s=5).run(stop))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("runs")
        began = time.monotonic()
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 0
        assert time.monotonic() - began < 10
        assert "last words" in parent.stdout.read()
