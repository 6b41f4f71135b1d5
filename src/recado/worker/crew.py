"""The runners of a worker's handlers, made before anything else: some fork, and a fork wants no threads beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from recado.worker.handlers import Handler
from recado.worker.processes import ProcessRunner
from recado.worker.run import Run
from recado.worker.runner import Runner
from recado.worker.tasks import TaskRunner
from recado.worker.threads import ThreadRunner
from recado.worker.zygote import Zygote

__all__ = ["Crew", "crew_of"]


class Crew(NamedTuple):
    """A runner for each handler, and where all of them give back their runs."""

    runners: list[Runner]
    returned: deque[Run]


def crew_of(handlers: Iterable[Handler]) -> Crew:
    """Make them; they start later."""
    returned: deque[Run] = deque()
    return Crew([_runner(handler, returned) for handler in handlers], returned)


def _runner(handler: Handler, returned: deque[Run]) -> Runner:
    if handler.is_async:
        return TaskRunner(handler, returned)
    if handler.timeout_s is not None:
        return ProcessRunner(handler, returned, Zygote(handler.call))
    return ThreadRunner(handler, returned)
