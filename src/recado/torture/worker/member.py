"""One worker process over all its lives: each life has a journal of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from recado.errors import TortureBroken
from recado.supervisor import Supervisor
from recado.torture.programs import Surroundings
from recado.torture.worker.journal import Life

__all__ = ["Member"]

#: A killed process is gone at once, unless the disk holds it.
GONE_S = 10.0

#: How long a worker may take to end: RECADO_DRAIN_S as we leave it, and what the supervisor adds.
DRAIN_S = 20.0


class Member:
    """Call it from the run's main thread: its processes end with that thread."""

    def __init__(
        self, surroundings: Surroundings, name: str, target: str, *, settings: Mapping[str, str], session_s: float
    ) -> None:
        self.name = name
        self.session_s = session_s
        self.lives: list[Life] = []
        self.log = surroundings.folder / f"{name}.log"
        #: Exit codes of lives that SIGTERM ended.
        self.codes: list[int] = []
        self._surroundings = surroundings
        self._target = target
        self._settings = dict(settings)
        self._running: Supervisor | None = None
        self._writing = threading.Lock()

    def journal(self, life: Life) -> Path:
        """The file of a life."""
        return self._surroundings.folder / f"{life.name}.journal"

    def start(self) -> None:
        """Start it; a member that is new to the group needs no other sign of life."""
        life = Life(f"{self.name}-{len(self.lives) + 1}")
        self.journal(life).touch()
        arguments = ["torture", "member", "--config", "{config}", self._target, str(self.journal(life))]
        program = self._surroundings.program(self.name, *arguments, **self._settings)
        self._running = Supervisor([program], on_line=self._write, drain_s=DRAIN_S)
        self._running.start()
        self.lives.append(life)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would, and block until it is gone."""
        if self._running is None:
            return
        self._signal(signal.SIGKILL)
        self.lives[-1].killed_ns = time.time_ns()
        if self._running.wait(GONE_S) is None:
            raise TortureBroken(f"{self.name} does not end, even when killed; its log is {self.log}")
        self._running = None

    def end(self) -> int:
        """End it with SIGTERM, and SIGKILL when it does not; return its exit code (3 when it had to be killed)."""
        if self._running is None:
            return 0
        code = self._running.end(hurry=threading.Event())
        self._running = None
        self.lives[-1].ended_ns = time.time_ns()
        self.codes.append(code)
        return code

    def pause(self) -> None:
        """Stop its process with SIGSTOP."""
        self._signal(signal.SIGSTOP)
        self._paused_ns = time.time_ns()

    def resume(self) -> None:
        """Let it go on with SIGCONT."""
        self._signal(signal.SIGCONT)
        self.lives[-1].frozen_ns.append((self._paused_ns, time.time_ns()))

    def check(self) -> None:
        """Raise TortureBroken where it ended by itself."""
        if self._running is not None and (code := self._running.wait(0)) is not None:
            raise TortureBroken(f"{self.name} ended by itself with exit code {code}; its log is {self.log}")

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._running.pids() if self._running is not None else []:
            os.kill(pid, number)

    def _write(self, _: str, line: str) -> None:
        with self._writing, self.log.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
