"""Child processes: started, kept alive, relayed into one log, and ended in order."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

__all__ = ["Program", "Supervisor"]

#: Rest before a child that died is started again, in seconds; it doubles up to the longest.
FIRST_REST_S = 0.5
LONGEST_REST_S = 30.0

#: A child that lived so long has earned a first rest again, in seconds.
HEALTHY_S = 60.0

#: How often the children are looked at, in seconds.
LOOK_S = 0.1

#: What a child may take beyond the drain time of its own settings before it is killed, in seconds: a worker whose
#: coordinator is away needs five of them to leave its group.
GRACE_S = 10.0

#: How long to wait for what an ended child has written, in seconds; a grandchild may keep its output open for ever.
LAST_LINES_S = 2.0

#: Exit code of a child that cannot run as it is set up: starting it again would change nothing.
USAGE = 2

#: Runs first in the child: has Linux send SIGTERM (15) when the thread that started it ends (1 = PR_SET_PDEATHSIG), so
#: that a killed parent leaves nobody behind; then becomes the program. Elsewhere it only becomes the program.
_LEASH = """
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 15)
except (AttributeError, OSError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs: a name for its lines, a command with an absolute path, and its whole environment.

    Neighbours of one ``crew`` are ended together; a program without one is ended when those before it have ended.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    crew: str = ""


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    relay: threading.Thread | None = None
    started_at: float = 0.0
    #: When it is to be started again; never, if it cannot run as it is set up.
    start_at: float = 0.0
    rest_s: float = FIRST_REST_S


class Supervisor:
    """Runs programs until told to stop. Call it from one thread; that thread must outlive the children.

    ``on_line`` is given (name, line) of each line that a child writes, from a thread of that child's own.
    """

    def __init__(self, programs: Sequence[Program], *, on_line: Callable[[str, str], None], drain_s: float) -> None:
        self._children = [_Child(program) for program in programs]
        self._on_line = on_line
        self._drain_s = drain_s

    def start(self) -> None:
        """Start every program."""
        for child in self._children:
            self._start(child)

    def look(self) -> int | None:
        """Start again what died and has rested; return the exit code of a child that cannot run, else None."""
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.start_at:
                    self._start(child)
                continue
            code = child.process.poll()
            if code is None:
                continue
            self._collect(child)
            if code == USAGE:
                child.start_at = math.inf
                return code
            self._rest(child, code, now)
        return None

    def run(
        self,
        stop: threading.Event,
        *,
        hurry: threading.Event | None = None,
        reload: threading.Event | None = None,
    ) -> int:
        """Keep the programs alive until ``stop`` is set, then end them (see ``end``); return the worst exit code.

        When ``reload`` is set they are started anew; then one that cannot run waits for the next time. Signal
        handlers may set the events: here they are only looked at, because waiting for one would hold its lock.
        """
        hurry = hurry or threading.Event()
        failed = None
        self.start()
        while not stop.is_set() and (failed is None or reload is not None):
            if reload is not None and reload.is_set():
                reload.clear()
                self.end(hurry=hurry)
                if stop.is_set():
                    break
                failed = None
                self.start()
            time.sleep(LOOK_S)
            if (code := self.look()) is not None:
                failed = code
        return max(self.end(hurry=hurry), failed or 0)

    def end(self, *, hurry: threading.Event) -> int:
        """End the children in their order, crew after crew; return the worst exit code.

        The order matters: what brings in work goes first. A child is killed when its drain time is over; when
        ``hurry`` is set it is told a second time, and soon killed.
        """
        codes = [0]
        for _, crew in itertools.groupby(self._children, key=lambda child: child.program.crew or child.program.name):
            codes += self._end([child for child in crew if child.process is not None], hurry)
        return max(codes)

    def wait(self, timeout_s: float) -> int | None:
        """Block until every program has ended by itself; return the worst exit code, None when one still runs.

        Nothing is started again: this is for programs that do one thing.
        """
        deadline = time.monotonic() + timeout_s
        children = [child for child in self._children if child.process is not None]
        while any(map(_runs, children)):
            if time.monotonic() > deadline:
                return None
            time.sleep(LOOK_S / 10)
        return max([0, *(_exit_code(self._collect(child)) for child in children)])

    def pids(self) -> list[int]:
        """The processes that run now."""
        return [child.process.pid for child in self._children if child.process is not None]

    def _start(self, child: _Child) -> None:
        program = child.program
        # A session of its own: Ctrl-C in the terminal reaches only the parent, which ends the children in order.
        child.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *program.command],
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        child.started_at = time.monotonic()
        assert child.process.stdout is not None
        child.relay = threading.Thread(
            target=self._relay, args=(program.name, child.process.stdout), name=f"relay-{program.name}", daemon=True
        )
        child.relay.start()

    def _relay(self, name: str, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._on_line(name, line.decode("utf-8", "replace").rstrip("\r\n"))

    def _rest(self, child: _Child, code: int, now: float) -> None:
        if now - child.started_at >= HEALTHY_S:
            child.rest_s = FIRST_REST_S
        self._on_line(child.program.name, f"ended ({_reason(code)}); starting it again in {child.rest_s:g} s")
        child.start_at = now + child.rest_s
        child.rest_s = min(LONGEST_REST_S, child.rest_s * 2)

    def _end(self, crew: list[_Child], hurry: threading.Event) -> list[int]:
        deadline = time.monotonic() + self._drain_s + GRACE_S
        hurried = False
        _tell(crew)
        while any(map(_runs, crew)) and time.monotonic() < deadline:
            if hurry.is_set() and not hurried:
                hurried, deadline = True, min(deadline, time.monotonic() + GRACE_S)
                _tell(crew)
            time.sleep(LOOK_S / 10)
        for child in crew:
            if child.process is not None and _runs(child):
                self._on_line(child.program.name, "did not end in time; killing it (what is not committed comes again)")
                child.process.kill()
        return [_exit_code(self._collect(child)) for child in crew]

    def _collect(self, child: _Child) -> int:
        """Take leave of a child that has ended: its exit code, after its last line."""
        assert child.process is not None
        assert child.relay is not None
        code = child.process.wait()
        child.relay.join(LAST_LINES_S)
        child.process = child.relay = None
        return code


def _runs(child: _Child) -> bool:
    return child.process is not None and child.process.poll() is None


def _tell(crew: Sequence[_Child]) -> None:
    for child in crew:
        if child.process is not None:
            child.process.send_signal(signal.SIGTERM)


def _exit_code(code: int) -> int:
    """What a child's end means for ours: one that was killed left work behind, one that SIGTERM ended had none yet."""
    return 3 if code < 0 and code != -signal.SIGTERM else max(code, 0)


def _reason(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
