"""Runs the delay line in a thread, from when there is something delayed until the process ends."""

from __future__ import annotations

import atexit
import os
import threading
import time

import structlog

from recado.errors import NotAllowed, RecadoError
from recado.kafka.abstract import Clients, Topics
from recado.outcomes.delay_line import DelayLine
from recado.outcomes.delay_topics import DelayTopics

__all__ = ["DelayService"]

log = structlog.get_logger(__name__)

#: Rest between two looks for delay topics that another process made, in seconds. Until then there is no consumer.
LOOK_EVERY_S = 5.0

#: How long the end of a process may wait for the line to leave its group, in seconds, where nobody has closed it: a
#: WSGI server just ends. Without leaving, others get its partitions only when its session has timed out.
LEAVE_S = 3.0

#: Rest before the line starts anew after a trouble, in seconds.
AGAIN_S = 2.0

#: The same where Kafka does not let it: others may be allowed, and this one would only repeat itself.
DENIED_S = 60.0


class DelayService:
    """The delay line of one process. ``start`` once, then any thread may call the rest."""

    def __init__(self, *, clients: Clients, catalog: Topics, max_record_bytes: int) -> None:
        self._clients = clients
        self._catalog = catalog
        self._pid = os.getpid()
        self._stopping = threading.Event()
        self._nudged = threading.Event()
        self.topics = DelayTopics(
            clients=clients, topics=catalog, max_record_bytes=max_record_bytes, on_made=self._nudged.set
        )
        self._thread = threading.Thread(target=self._run, name="recado-delay", daemon=True)

    def start(self) -> None:
        """Begin to look for delay topics."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the line to finish; ``join`` waits for it."""
        self._stopping.set()
        self._nudged.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False when Kafka kept the line from leaving. What it had not moved on stays in Kafka."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        atexit.unregister(self._leave)  # it would keep the line's clients until then
        return True

    def _leave(self) -> None:
        if os.getpid() == self._pid:  # a fork inherits this call, but not the thread
            self.stop()
            self.join(LEAVE_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self.topics.there():
                self._nudged.wait(LOOK_EVERY_S)
                self._nudged.clear()
                continue
            try:
                self._work()
            except RecadoError as error:
                again_s = DENIED_S if isinstance(error, NotAllowed) else AGAIN_S
                log.warning("delay line starts anew", error=str(error), again_s=again_s)
                self._stopping.wait(again_s)
            except Exception:  # a thread that died of a mistake of ours would leave everything delayed, in silence
                log.exception("delay line failed, it starts anew", again_s=AGAIN_S)
                self._stopping.wait(AGAIN_S)

    def _work(self) -> None:
        atexit.unregister(self._leave)
        atexit.register(self._leave)
        line = DelayLine(clients=self._clients, topics=self.topics, catalog=self._catalog)
        started = time.monotonic()
        try:
            line.run(self._stopping.is_set)
        finally:
            line.close()
            log.info("delay line ended", after_s=round(time.monotonic() - started))
