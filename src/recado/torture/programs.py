"""recado's programs as a user runs them: gateways that are killed and come back, and Kafka's own tools."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from recado.errors import TortureBroken
from recado.supervisor import Program, Supervisor

__all__ = ["Gateway", "Surroundings", "ask"]

#: From a gateway's start to its first answer: a second or two here, more on a machine that is very busy.
LIVE_S = 60.0

#: How often a starting gateway is asked, in seconds.
LOOK_S = 0.02

#: A killed process is gone at once, unless the disk holds it.
GONE_S = 10.0

#: How long a gateway may take to end: RECADO_DRAIN_S as we leave it, and what the supervisor adds.
DRAIN_S = 20.0

#: Lines of a tool that are told when it fails.
LAST_LINES = 8


class Surroundings:
    """What the programs of one run share: a folder, the Kafka they use, and none of the user's settings."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str], kafka_version: str) -> None:
        self.folder = folder
        self.bootstrap_servers = ""
        self._environment = {name: value for name, value in environment.items() if not name.startswith("RECADO_")}
        self._environment |= {"PYTHONUNBUFFERED": "1", "RECADO_KAFKA_VERSION": kafka_version}
        # A recado.toml in the working directory is the user's; an empty one of our own takes its place.
        self._config = folder / "recado.toml"
        self._config.touch()

    def program(self, name: str, *arguments: str, **settings: str) -> Program:
        """``recado ARGUMENTS`` with these settings; ``{config}`` among them stands for the option's value."""
        command = [sys.executable, "-m", "recado", *(a.replace("{config}", str(self._config)) for a in arguments)]
        own = {"RECADO_BOOTSTRAP_SERVERS": self.bootstrap_servers, "RECADO_DATA_DIR": str(self.folder)}
        return Program(name, command, {**self._environment, **own, **settings})

    def tool(self, name: str, arguments: Sequence[str], *, within_s: float = 60.0) -> list[str]:
        """Run one of Kafka's tools to its end and return the lines that it wrote. Raises TortureBroken."""
        lines: list[str] = []
        self.tool_lines(name, arguments, lines.append, within_s=within_s)
        return lines

    def tool_lines(
        self, name: str, arguments: Sequence[str], on_line: Callable[[str], None], *, within_s: float
    ) -> None:
        """The same for one that writes much: each line is given to ``on_line``, in one thread."""
        self._run("Kafka's " + name, ["kafka", "--config", "{config}", name, *arguments], on_line, within_s, (0,))

    def recado(self, arguments: Sequence[str], *, within_s: float = 120.0, codes: Sequence[int] = (0,)) -> list[str]:
        """Run a command of recado's to its end and return the lines that it wrote. Raises TortureBroken."""
        lines: list[str] = []
        self._run("recado", [*arguments, "--config", "{config}"], lines.append, within_s, codes)
        return lines

    def _run(
        self, name: str, arguments: list[str], on_line: Callable[[str], None], within_s: float, codes: Sequence[int]
    ) -> None:
        last: list[str] = []

        def keep(_: str, line: str) -> None:
            on_line(line)
            last.append(line)
            del last[:-LAST_LINES]

        program = self.program(name, *arguments)
        running = Supervisor([program], on_line=keep, drain_s=0.0)
        running.start()
        try:
            code = running.wait(within_s)
        finally:
            running.end(hurry=_hurry())
        if code not in codes:
            what = f"did not end within {within_s:.0f} s" if code is None else f"ended with exit code {code}"
            raise TortureBroken(f"{name} {' '.join(arguments)} {what}:\n" + "\n".join(last))


class Gateway:
    """One gateway, over all its lives. Call it from the run's main thread: its processes end with that thread."""

    def __init__(self, surroundings: Surroundings, number: int, port: int) -> None:
        self.number = number
        self.port = port
        self.folder = surroundings.folder / f"gateway-{number}"
        self.log = surroundings.folder / f"gateway-{number}.log"
        self.folder.mkdir()
        self._surroundings = surroundings
        self._running: Supervisor | None = None
        self._writing = threading.Lock()

    def start(self) -> None:
        """Start it and block until it answers. Raises TortureBroken when it does not."""
        settings = {"RECADO_PORT": str(self.port), "RECADO_DATA_DIR": str(self.folder), "RECADO_LOG_FORMAT": "json"}
        program = self._surroundings.program(f"gateway-{self.number}", "gateway", "--config", "{config}", **settings)
        self._running = Supervisor([program], on_line=self._write, drain_s=DRAIN_S)
        self._running.start()
        deadline = time.monotonic() + LIVE_S
        while ask(self.port, "GET", "/health/live", timeout_s=2.0)[0] != 200:
            if self._running.wait(0) is not None or time.monotonic() > deadline:
                raise TortureBroken(f"Gateway {self.number} does not answer on port {self.port}; its log is {self.log}")
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would, and block until it is gone."""
        self._signal(signal.SIGKILL)
        if self._running is not None and self._running.wait(GONE_S) is None:
            raise TortureBroken(f"Gateway {self.number} does not end, even when killed; its log is {self.log}")
        self._running = None

    def end(self) -> int:
        """End it with SIGTERM, and SIGKILL when it does not; return its exit code (3 when it had to be killed)."""
        if self._running is None:
            return 0
        self._signal(signal.SIGCONT)
        code = self._running.end(hurry=threading.Event())
        self._running = None
        return code

    def pause(self) -> None:
        """Stop its process with SIGSTOP: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on with SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # A child's pid is not given to anybody else before it was waited for.
        for pid in self._running.pids() if self._running is not None else []:
            os.kill(pid, number)

    def _write(self, _: str, line: str) -> None:
        with self._writing, self.log.open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def ask(port: int, method: str, path: str, *, timeout_s: float) -> tuple[int, str]:
    """One request on a connection of its own: status (0 when nothing answered) and body, or what was wrong."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        return 0, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def _hurry() -> threading.Event:
    hurry = threading.Event()
    hurry.set()
    return hurry
