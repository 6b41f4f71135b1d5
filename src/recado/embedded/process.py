"""One process of ours, known by pid and time of birth, so that a reused pid is never signalled."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Process", "load", "save", "spawn"]

#: How often a process that is no child of ours is looked at while we wait for its end.
_POLL_S = 0.01

_LINUX = Path("/proc/self/stat").exists()

#: Runs as ``python -I -S -c``, asks Linux to kill it (9) when the thread that created it ends
#: (1 = PR_SET_PDEATHSIG), leaves if that happened already, and then becomes the JVM: same pid, no process more.
#: SIGKILL because a paused broker would not see anything gentler; what it had written is in the page cache.
_LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.nice(int(sys.argv[2]))
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was alive when this was made."""

    pid: int
    born: str

    def alive(self) -> bool:
        """Tell whether this very process still runs (a zombie does not)."""
        return _born(self.pid) == self.born

    def send(self, signum: signal.Signals) -> bool:
        """Send a signal to this very process; False when it is gone. The pid cannot be reused in between on Linux."""
        try:
            if not hasattr(os, "pidfd_open"):
                return self._send_by_pid(signum)
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def _send_by_pid(self, signum: signal.Signals) -> bool:
        if not self.alive():
            return False
        os.kill(self.pid, signum)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Block until the process is gone; False when it still runs after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
    leashed: bool,
    niceness: int = 0,
    at_end: Callable[[int], None] = lambda _: None,
) -> Process:
    """Start a process in its own session, its output appended to ``log``, its working directory ``folder``.

    Its own session means that Ctrl-C in the terminal does not reach it. ``leashed``: it must not outlive this
    Python process, however that ends. Linux watches the creating *thread* for this, so a thread of its own
    creates the process, stays until it ends, reaps it, and calls ``at_end`` with its exit code. Elsewhere than on
    Linux a leash, and the ``niceness`` of a leashed process, do nothing.
    Raises OSError when it cannot be started.
    """
    if leashed and _LINUX and sys.executable:
        command = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), str(niceness), *command]
    born: queue.SimpleQueue[Process | OSError] = queue.SimpleQueue()

    def keep() -> None:
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            born.put(error)
            return
        born.put(Process(child.pid, _born(child.pid) or "gone"))
        at_end(child.wait())

    threading.Thread(target=keep, name=f"keeper of {log.parent.name}", daemon=True).start()
    result = born.get()
    if isinstance(result, OSError):
        raise result
    return result


def save(process: Process, path: Path) -> None:
    """Write the pid file, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(process)), "utf-8")
    fresh.replace(path)


def load(path: Path) -> Process | None:
    """Read a pid file; None when there is none, it is damaged, or its process is gone."""
    try:
        fields = json.loads(path.read_text("utf-8"))
        process = Process(int(fields["pid"]), str(fields["born"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return process if process.alive() else None


def _born(pid: int) -> str | None:
    """Boot and moment of a process's start; None when it is gone or a zombie."""
    if _LINUX:
        return _born_on_linux(pid)
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _born_on_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
    # The second field is the program's name, in parentheses, and may hold anything; count from its end.
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{boot}/{rest[18]}"
