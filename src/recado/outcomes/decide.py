"""What a failed attempt leads to: a pure function of the error, the attempt and the policy."""

from __future__ import annotations

from recado.errors import HandlerError, Undecodable
from recado.outcomes.backoff import RetryPolicy
from recado.outcomes.outcome import Dead, Done, Outcome, RetryAfter, Stopped
from recado.outcomes.signals import AlreadyDone, Reject, Retry

__all__ = ["decide", "describe"]


def decide(error: BaseException, *, attempt: int, policy: RetryPolicy, chance: float) -> Outcome:
    """Decide about the record whose ``attempt`` (1 is the first) ended in ``error``.

    ``chance``, from 0 to 1, places the delay within the Backoff's jitter.
    """
    if isinstance(error, AlreadyDone):
        return Done()
    if isinstance(error, Reject):
        return Dead(f"rejected: {error}")
    if isinstance(error, Undecodable):
        return Dead(f"undecodable: {error}")
    if isinstance(error, HandlerError):
        return Stopped(f"the handler is wrong: {error}")
    backoff = policy.backoff(error)
    if backoff is None:
        return Dead(f"{describe(error)} is not retried")
    if attempt >= backoff.attempts:
        return Dead(f"attempt {attempt} of {backoff.attempts} failed: {describe(error)}")
    if isinstance(error, Retry) and error.delay_s is not None:
        return RetryAfter(error.delay_s, backoff.keep_order)
    return RetryAfter(backoff.delay_s(attempt, chance), backoff.keep_order)


def describe(error: BaseException) -> str:
    """An exception in one line, as a person would quote it."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
