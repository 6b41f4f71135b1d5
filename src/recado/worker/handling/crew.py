"""The runners of a worker's handlers, made before anything else: some fork, and a fork wants no threads beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from recado.record import Record
from recado.worker.handling.handlers import Handler
from recado.worker.handling.outputs import returned
from recado.worker.handling.outtray import Outtray
from recado.worker.handling.pause import Pause
from recado.worker.handling.processes import ProcessRunner
from recado.worker.handling.run import Run
from recado.worker.handling.runner import Runner
from recado.worker.handling.tasks import TaskRunner
from recado.worker.handling.threads import ThreadRunner
from recado.worker.handling.zygote import Zygote

__all__ = ["Crew", "called", "crew_of"]


class Crew(NamedTuple):
    """A runner for each handler, where all of them give back their runs, and where they put what is to be sent."""

    runners: list[Runner]
    returned: deque[Run]
    tray: Outtray
    #: Of the handlers that pause when nearly everything fails.
    pauses: dict[Runner, Pause]


def crew_of(handlers: Iterable[Handler]) -> Crew:
    """Make them; they start later."""
    crew = Crew([], deque(), Outtray(), {})
    for handler in handlers:
        pause = None if handler.breaker is None else Pause(handler.breaker, handler.name)
        runner = _runner(handler, crew.returned, crew.tray, pause)
        crew.runners.append(runner)
        if pause is not None:
            crew.pauses[runner] = pause
    return crew


def called(call: Callable[[Any], Any], argument: Any) -> list[Record]:
    """What travels back from a handler's process: the records that it returned."""
    return returned(call(argument))


def _runner(handler: Handler, returned: deque[Run], tray: Outtray, pause: Pause | None) -> Runner:
    if handler.is_async:
        return TaskRunner(handler, returned, tray, pause)
    if handler.timeout_s is not None:
        return ProcessRunner(handler, returned, tray, pause, Zygote(partial(called, handler.call)))
    return ThreadRunner(handler, returned, tray, pause)
