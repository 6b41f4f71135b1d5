"""The end of a program whose worker was told to end: it comes, whatever holds it up."""

from __future__ import annotations

import os
import threading
import time

import structlog

__all__ = ["EXIT_S", "end_within"]

log = structlog.get_logger(__name__)

#: How long a program may take to end after its worker has, in seconds: for exit hooks and threads of its own.
EXIT_S = 4.0


def end_within(seconds: float, code: int) -> None:
    """End this process with this code after so long, if it does not by itself.

    The interpreter waits for exit hooks, for threads that are no daemons and for those of ``asyncio.to_thread``: a
    handler that never ends in one of them would keep a worker that has left its group long ago.
    """

    def leave() -> None:
        time.sleep(seconds)
        running = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
        log.warning("the program does not end by itself, so it is ended now", code=code, threads=" ".join(running))
        os._exit(code)

    threading.Thread(target=leave, name="recado-end", daemon=True).start()
