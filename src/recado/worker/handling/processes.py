"""Runs a ``def`` handler that has a time limit in processes, which can be killed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from recado.worker.handling.handlers import Handler
from recado.worker.handling.outtray import Outtray
from recado.worker.handling.pause import Pause
from recado.worker.handling.run import Run
from recado.worker.handling.threads import ThreadRunner
from recado.worker.handling.zygote import Lane, Zygote

__all__ = ["ProcessRunner"]


class ProcessRunner(ThreadRunner):
    """Runs a ``def`` handler in ``concurrency`` threads, each of which has the call done by a process of its own."""

    def __init__(
        self, handler: Handler, returned: deque[Run], tray: Outtray, pause: Pause | None, zygote: Zygote
    ) -> None:
        super().__init__(handler, returned, tray, pause)
        self._zygote = zygote

    def stacks(self) -> list[tuple[Run, Callable[[], list[str]]]]:
        """The runs that threads are at now; where each is only its process knows."""
        return [(run, list) for run in self.executing()]

    def stop(self) -> None:
        """Let every thread end when it comes to the end of the queue."""
        super().stop()
        self._zygote.close()

    def _caller(self) -> tuple[Callable[[Any], Any], Callable[[], None]]:
        assert self.handler.timeout_s is not None
        lane = Lane(self._zygote, self.handler.timeout_s)
        return lane.call, lane.close
