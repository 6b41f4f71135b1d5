"""How long to wait between the attempts of one record, and how many there may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from recado.errors import HandlerError
from recado.outcomes.values import is_number, is_whole, shown

__all__ = ["MAX_DELAY_S", "Backoff", "RetryPolicy", "is_delay"]

#: The longest delay of a retry, in seconds: ten years. It catches milliseconds that are taken for seconds.
MAX_DELAY_S = 315_360_000

_DELAY = f"from 0 to {MAX_DELAY_S:,} seconds"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff: ``first_s``, then ``factor`` times more each time, never more than ``cap_s``.

    ``jitter`` 0.2 spreads each delay by ±20 %, so that what failed together does not come back together.
    ``attempts`` counts all of them, the first included. With ``keep_order`` the later records of a failed one's key
    wait until it is done or dead, those of other keys do not. Raises HandlerError for values that make no sense.
    """

    first_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    jitter: float = 0.2
    attempts: int = 6
    keep_order: bool = False

    def __post_init__(self) -> None:
        _check(is_delay(self.first_s), "first_s", self.first_s, _DELAY)
        _check(is_number(self.factor) and self.factor >= 1, "factor", self.factor, "1 or more")
        _check(is_delay(self.cap_s), "cap_s", self.cap_s, _DELAY)
        _check(self.cap_s >= self.first_s, "cap_s", self.cap_s, "at least first_s")
        _check(is_number(self.jitter) and 0 <= self.jitter < 1, "jitter", self.jitter, "from 0 to below 1")
        _check(is_whole(self.attempts) and self.attempts >= 1, "attempts", self.attempts, "a whole number of 1 or more")
        _check(isinstance(self.keep_order, bool), "keep_order", self.keep_order, "True or False")

    def delay_s(self, attempt: int, chance: float) -> float:
        """The delay after the failed ``attempt`` (1 is the first); ``chance`` from 0 to 1 places it in the jitter."""
        try:
            delay = self.first_s * self.factor ** (attempt - 1)
        except OverflowError:
            delay = self.cap_s
        return min(min(delay, self.cap_s) * (1 + self.jitter * (2 * chance - 1)), self.cap_s)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which Backoff an exception gets: that of the most specific class named, else ``default``; None is no retry."""

    default: Backoff | None
    by_class: tuple[tuple[type[BaseException], Backoff | None], ...] = ()

    @classmethod
    def of(cls, retry: object) -> RetryPolicy:
        """Read a handler's ``retry=``. Raises HandlerError for anything else."""
        if retry is None or isinstance(retry, Backoff):
            return cls(retry)
        if not isinstance(retry, Mapping):
            rule = "a Backoff, None or {ExceptionClass: Backoff or None}"
            raise HandlerError(f"retry is {retry!r}; it must be {rule}.")
        for key, value in retry.items():
            if not (isinstance(key, type) and issubclass(key, BaseException)):
                raise HandlerError(f"retry names {key!r}, which is no exception class.")
            if value is not None and not isinstance(value, Backoff):
                raise HandlerError(f"retry[{key.__name__}] is {value!r}; it must be a Backoff or None.")
        return cls(Backoff(), tuple(retry.items()))

    @property
    def keeps_order(self) -> bool:
        """Whether any exception's Backoff does."""
        backoffs = (self.default, *(backoff for _, backoff in self.by_class))
        return any(backoff is not None and backoff.keep_order for backoff in backoffs)

    def backoff(self, error: BaseException) -> Backoff | None:
        """The Backoff for this exception, or None where it must not be retried."""
        named = dict(self.by_class)
        for kind in type(error).__mro__:
            if kind in named:
                return named[kind]
        return self.default


def is_delay(value: object) -> TypeGuard[float]:
    """Whether this is a number of seconds that a retry may wait."""
    return is_number(value) and 0 <= value <= MAX_DELAY_S


def _check(good: bool, name: str, value: object, remedy: str) -> None:
    if not good:
        raise HandlerError(f"Backoff({name}={shown(value)}): it must be {remedy}.")
