"""The pause of a handler whose failures are systemic: its runs wait, and one after the other probes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from recado.outcomes.breaker import Breaker, Failures
from recado.outcomes.decide import describe
from recado.telemetry.metrics import WORKER_PAUSED
from recado.worker.handling.run import Run

__all__ = ["Pause"]

log = structlog.get_logger(__name__)


class Pause:
    """Stands between a handler's lanes and its threads. ``put`` may be called from any thread, the rest by the loop."""

    def __init__(self, policy: Breaker, handler: str) -> None:
        self._policy = policy
        self._handler = handler
        self._failures = Failures(policy)
        self._start: Callable[[Run], None] = lambda run: None
        self._take_back: Callable[[], list[Run]] = list
        self._held: deque[Run] = deque()
        self._rest_s = self._probe_at = self._since = 0.0
        self._from_the_end = False
        #: Why it pauses; empty while it does not.
        self.reason = ""

    def before(self, start: Callable[[Run], None], take_back: Callable[[], list[Run]]) -> Callable[[Run], None]:
        """Stand before where threads take their runs; returns where lanes put them from now on.

        ``take_back`` returns the runs that no thread has taken yet.
        """
        self._start, self._take_back = start, take_back
        return self.put

    def put(self, run: Run) -> None:
        """Pass a run on, or keep it while the handler pauses."""
        if not self.reason or run.epoch.closed:
            self._start(run)
            return
        self._held.append(run)
        if not self.reason:  # it ended between the question and the answer
            self._release()

    def failed(self, run: Run, error: BaseException, now: float) -> bool:
        """Note a failed attempt; True while the handler pauses: then keep the run with ``hold``."""
        if self.reason:
            return True
        message = run.messages[run.at]
        key = message.key()
        known_as = key if key is not None else (message.topic(), message.partition(), message.offset())
        if not self._failures.failed(now, known_as, type(error).__name__):
            return False
        self._since, self._rest_s = now, self._policy.first_s
        self._probe_at = now + self._rest_s
        self.reason = f"most attempts fail, the last with {describe(error)}"
        self._held.extend(self._take_back())
        WORKER_PAUSED.labels(self._handler).set(1)
        log.error("handler pauses", handler=self._handler, reason=self.reason, probe_in_s=self._rest_s)
        return True

    def hold(self, run: Run) -> None:
        """Keep a run whose attempt failed; it is tried again as if it had not been."""
        self._held.append(run)

    def succeeded(self, number: int, now: float) -> None:
        """Note records that were done: the first of them ends a pause."""
        if self.reason:
            log.warning("handler goes on", handler=self._handler, paused_s=round(now - self._since, 1))
            self.reason = ""
            self._failures.clear()
            WORKER_PAUSED.labels(self._handler).set(0)
            self._release()
        elif self._failures.any:
            self._failures.succeeded(now, number)

    def probe(self, now: float) -> None:
        """Let one run through when it is time: by turns the one that waits longest, and the newest."""
        if not self.reason or now < self._probe_at or not self._held:
            return
        self._rest_s = min(2 * self._rest_s, self._policy.cap_s)
        self._probe_at = now + self._rest_s
        run = self._held.pop() if self._from_the_end else self._held.popleft()
        self._from_the_end = not self._from_the_end
        self._start(run)

    def pop_closed(self) -> list[Run]:
        """Take out the runs whose partition is closed: they get no further attempt here."""
        held = [self._held.popleft() for _ in range(len(self._held))]
        self._held.extend(run for run in held if not run.epoch.closed)
        return [run for run in held if run.epoch.closed]

    def _release(self) -> None:
        while True:
            try:
                run = self._held.popleft()
            except IndexError:
                return
            self._start(run)
