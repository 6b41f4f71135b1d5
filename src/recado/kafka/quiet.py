"""librdkafka's own log: a line for each failed connection, many a second; what matters is logged by us, once."""

from __future__ import annotations

import logging
import time

__all__ = ["Seldom", "quiet_logger"]

#: The same trouble is told again after so long, in seconds.
AGAIN_S = 30.0


def quiet_logger() -> logging.Logger:
    """The logger for librdkafka's lines: silent unless its level is set lower (``librdkafka``)."""
    logger = logging.getLogger("librdkafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    return logger


class Seldom:
    """Tells whether something should be said now, or was said a moment ago. One per client."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def now(self, what: str) -> bool:
        """True the first time, and again after ``AGAIN_S``."""
        moment = time.monotonic()
        if moment - self._said_at.get(what, float("-inf")) < AGAIN_S:
            return False
        self._said_at[what] = moment
        return True
