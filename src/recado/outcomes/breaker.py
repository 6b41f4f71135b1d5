"""When failures are no longer about single records: a policy, and the pure bookkeeping that decides by it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from recado.errors import HandlerError
from recado.outcomes.values import is_number, is_whole

__all__ = ["Breaker", "Failures"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """A handler pauses when at least ``failures`` attempts on at least ``keys`` different keys failed ``within_s``.

    And when of all attempts in that time no more than a share of ``1 - share`` succeeded, and ``share`` of the failures
    are of one exception class. While it pauses, one record is tried after ``first_s``, then after twice as long, up to
    ``cap_s``; the first that succeeds ends the pause. Attempts of a pause are not counted. Raises HandlerError for
    values that make no sense.
    """

    failures: int = 20
    keys: int = 10
    share: float = 0.8
    within_s: float = 30.0
    first_s: float = 1.0
    cap_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("failures", "keys"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise HandlerError(f"Breaker({name}={value!r}): it must be a whole number of 1 or more.")
        for name in ("share", "within_s", "first_s", "cap_s"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise HandlerError(f"Breaker({name}={value!r}): it must be a number above 0.")
        if self.share > 1 or self.cap_s < self.first_s:
            raise HandlerError("Breaker: share is at most 1, and cap_s at least first_s.")


class _Failed(NamedTuple):
    at: float
    key: Hashable
    kind: str


class Failures:
    """The attempts of a handler in the last ``within_s``. One thread only; times come from the caller."""

    def __init__(self, policy: Breaker) -> None:
        self._policy = policy
        #: More need not be remembered to tell shares.
        self._failed: deque[_Failed] = deque(maxlen=20 * policy.failures)
        self._succeeded: deque[tuple[float, int]] = deque()

    @property
    def any(self) -> bool:
        """Whether an attempt failed lately: else successes need not be told."""
        return bool(self._failed)

    def failed(self, now: float, key: Hashable, kind: str) -> bool:
        """Note a failed attempt; tell whether failures are systemic now."""
        self._failed.append(_Failed(now, key, kind))
        self._forget(now)
        policy, count = self._policy, len(self._failed)
        if count < policy.failures or len({one.key for one in self._failed}) < policy.keys:
            return False
        succeeded = sum(number for _, number in self._succeeded)
        most = max(Counter(one.kind for one in self._failed).values())
        return most >= policy.share * count and count >= policy.share * (count + succeeded)

    def succeeded(self, now: float, number: int) -> None:
        """Note records that were done."""
        self._succeeded.append((now, number))
        self._forget(now)

    def clear(self) -> None:
        """Forget everything."""
        self._failed.clear()
        self._succeeded.clear()

    def _forget(self, now: float) -> None:
        since = now - self._policy.within_s
        while self._failed and self._failed[0].at < since:
            self._failed.popleft()
        while self._succeeded and self._succeeded[0][0] < since:
            self._succeeded.popleft()
