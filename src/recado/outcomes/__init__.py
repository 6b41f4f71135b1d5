"""The ends of an attempt: what an error means is decided by a pure function (``decide.py``), and nowhere else.

Law: decisions touch neither Kafka nor a clock nor a thread; policies are values, and chance is a parameter. Effects
stand in the ``delay_`` files: ``delay.py`` decides when a delayed record moves on, the line around it does so.
"""

from __future__ import annotations

from recado.outcomes.backoff import Backoff
from recado.outcomes.breaker import Breaker
from recado.outcomes.outcome import Dead, Done, Outcome, RetryAfter, Stopped
from recado.outcomes.signals import Reject, Retry

__all__ = ["Backoff", "Breaker", "Dead", "Done", "Outcome", "Reject", "Retry", "RetryAfter", "Stopped"]
