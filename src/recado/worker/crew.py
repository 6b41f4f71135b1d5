"""The runners of a worker's handlers, made before anything else: some fork, and a fork wants no threads beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from recado.worker.handlers import Handler
from recado.worker.outtray import Outtray
from recado.worker.processes import ProcessRunner
from recado.worker.run import Run
from recado.worker.runner import Runner
from recado.worker.tasks import TaskRunner
from recado.worker.threads import ThreadRunner
from recado.worker.zygote import Zygote

__all__ = ["Crew", "crew_of"]


class Crew(NamedTuple):
    """A runner for each handler, where all of them give back their runs, and where they put what is to be sent."""

    runners: list[Runner]
    returned: deque[Run]
    tray: Outtray


def crew_of(handlers: Iterable[Handler]) -> Crew:
    """Make them; they start later."""
    returned: deque[Run] = deque()
    tray = Outtray()
    return Crew([_runner(handler, returned, tray) for handler in handlers], returned, tray)


def _runner(handler: Handler, returned: deque[Run], tray: Outtray) -> Runner:
    if handler.is_async:
        return TaskRunner(handler, returned, tray)
    if handler.timeout_s is not None:
        return ProcessRunner(handler, returned, tray, Zygote(handler.call))
    return ThreadRunner(handler, returned, tray)
