"""The ends of an attempt: what an error means is decided by a pure function (``decide.py``), and nowhere else.

Law: nothing here touches Kafka, a clock or a thread; policies are values, and chance is a parameter.
"""

from __future__ import annotations

from recado.outcomes.backoff import Backoff
from recado.outcomes.outcome import Done, Outcome, RetryAfter, Stopped
from recado.outcomes.signals import Reject, Retry

__all__ = ["Backoff", "Done", "Outcome", "Reject", "Retry", "RetryAfter", "Stopped"]
