"""Starts what is compared, each as its own process, and reads what CPU and memory it took."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent

#: Kernel clock ticks per second, in which /proc counts CPU time.
TICKS = os.sysconf("SC_CLK_TCK")


class Running:
    """A server process, its children included."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = name
        self.port = port
        self._process = process

    def cpu_s(self) -> float:
        """User and system CPU seconds so far, of the process and its children."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def rss_mib(self) -> float:
        """Resident memory now, in MiB, of the process and its children."""
        return sum(_status_kib(pid, "VmRSS") for pid in self._pids()) / 1024

    def _pids(self) -> list[int]:
        pids, found = [self._process.pid], 0
        while found < len(pids):
            children = Path(f"/proc/{pids[found]}/task/{pids[found]}/children")
            pids += [int(pid) for pid in children.read_text().split()] if children.exists() else []
            found += 1
        return pids


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _status_kib(pid: int, name: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(text.split(f"{name}:")[1].split()[0])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(name: str, command: list[str], environment: dict[str, str], port: int) -> Iterator[Running]:
    """Run a server until the block ends; it answers when the block begins."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_port(port, process)
        yield Running(name, process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode} before it listened")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args} does not listen on {port}")


def recado(bootstrap: str, topic: str) -> tuple[str, list[str], dict[str, str], int]:
    """Our gateway, with its defaults."""
    port = free_port()
    environment = {"RECADO_BOOTSTRAP_SERVERS": bootstrap, "RECADO_PORT": str(port), "RECADO_TOPIC": topic}
    return "recado", [sys.executable, str(HERE.parent / "app.py")], environment, port


def bare(bootstrap: str, linger_ms: str) -> tuple[str, list[str], dict[str, str], int]:
    """A bare ASGI function with one fixed linger."""
    port = free_port()
    environment = {"BOOTSTRAP": bootstrap, "PORT": str(port), "LINGER_MS": linger_ms}
    return f"bare ASGI, linger {linger_ms} ms", [sys.executable, str(HERE / "bare_asgi.py")], environment, port


def tutorial(bootstrap: str, python: str) -> tuple[str, list[str], dict[str, str], int]:
    """The tutorial's app on gunicorn, 2 processes of 8 threads, `flush()` per request, run by another Python."""
    port = free_port()
    command = [str(Path(python).absolute()), "-m", "gunicorn", "-w", "2", "--threads", "8", "-b", f"127.0.0.1:{port}"]
    return "tutorial, flush()", [*command, "tutorial_app:app"], {"BOOTSTRAP": bootstrap}, port
