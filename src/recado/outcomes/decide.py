"""What a failed attempt leads to: a pure function of the error, the attempt and the policy."""

from __future__ import annotations

from recado.errors import HandlerError, Undecodable
from recado.outcomes.backoff import RetryPolicy, is_delay
from recado.outcomes.outcome import Dead, Done, Outcome, RetryAfter, Stopped
from recado.outcomes.signals import AlreadyDone, Reject, Retry

__all__ = ["decide", "describe", "text_of"]

#: How much is told of an error's message, in characters.
MAX_TEXT = 1_000


def decide(error: BaseException, *, attempt: int, policy: RetryPolicy, chance: float) -> Outcome:
    """Decide about the record whose ``attempt`` (1 is the first) ended in ``error``.

    ``chance``, from 0 to 1, places the delay within the Backoff's jitter.
    """
    if isinstance(error, AlreadyDone):
        return Done()
    if isinstance(error, Reject):
        return Dead(f"rejected: {text_of(error)}")
    if isinstance(error, Undecodable):
        return Dead(f"undecodable: {text_of(error)}")
    if isinstance(error, HandlerError):
        return Stopped(f"the handler is wrong: {text_of(error)}")
    backoff = policy.backoff(error)
    if backoff is None:
        return Dead(f"{describe(error)} is not retried")
    if attempt >= backoff.attempts:
        return Dead(f"attempt {attempt} of {backoff.attempts} failed: {describe(error)}")
    if isinstance(error, Retry) and is_delay(error.delay_s):
        return RetryAfter(error.delay_s, backoff.keep_order)
    return RetryAfter(backoff.delay_s(attempt, chance), backoff.keep_order)


def describe(error: BaseException) -> str:
    """An exception in one line, as a person would quote it."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """An exception's message, the first ``MAX_TEXT`` characters, as something that UTF-8 can say; never raises."""
    try:
        text = str(error)
    except Exception as failure:
        text = f"(its text cannot be made: {type(failure).__name__})"
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()
