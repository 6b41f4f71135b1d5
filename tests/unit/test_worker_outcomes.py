"""What a failed attempt leads to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado import Backoff, Reject, Retry
from recado.errors import HandlerError, Undecodable
from recado.outcomes import Dead, RetryAfter
from recado.outcomes.backoff import RetryPolicy
from recado.outcomes.dead_letter import cause_of
from recado.outcomes.decide import decide, text_of
from recado.outcomes.outcome import Done
from recado.outcomes.signals import AlreadyDone


def outcome(error: BaseException, attempt: int = 1, retry: object = Backoff(), chance: float = 0.5):
    return decide(error, attempt=attempt, policy=RetryPolicy.of(retry), chance=chance)


def test_delays_double_up_to_the_cap():
    backoff = Backoff(first_s=1, factor=2, cap_s=10, jitter=0)
    assert [backoff.delay_s(attempt, 0.5) for attempt in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 100), st.floats(1, 10), st.floats(0, 0.99))
def test_a_delay_stays_within_its_jitter_and_its_cap(attempt, chance, first_s, factor, jitter):
    delay = Backoff(first_s=first_s, factor=factor, cap_s=300, jitter=jitter).delay_s(attempt, chance)
    assert 0 <= delay <= 300


@pytest.mark.parametrize(
    "wrong",
    [{"first_s": -1}, {"factor": 0.5}, {"cap_s": 0.1}, {"jitter": 1}, {"attempts": 0}, {"attempts": 1.5},
     {"first_s": float("nan")}, {"cap_s": float("inf")}, {"attempts": True}, {"first_s": "1"},
     {"first_s": 10**10}, {"cap_s": 10**400}, {"factor": 10**400}],
)  # fmt: skip
def test_a_backoff_that_makes_no_sense_is_refused_by_name(wrong):
    with pytest.raises(HandlerError, match=next(iter(wrong))):
        Backoff(**wrong)


def test_an_exception_is_retried_until_the_attempts_are_used_up():
    backoff = Backoff(first_s=1, jitter=0, attempts=3)
    assert outcome(KeyError("x"), 1, backoff) == RetryAfter(1)
    assert outcome(KeyError("x"), 2, backoff) == RetryAfter(2)
    assert outcome(KeyError("x"), 3, backoff) == Dead("attempt 3 of 3 failed: KeyError: 'x'")


def test_retry_uses_its_own_delay_but_counts():
    assert outcome(Retry(delay_s=7), 1) == RetryAfter(7)
    assert outcome(Retry(), 1, Backoff(first_s=2, jitter=0)) == RetryAfter(2)
    assert isinstance(outcome(Retry(delay_s=7), 6), Dead)


def test_reject_and_undecodable_are_never_retried():
    assert outcome(Reject("no such customer")) == Dead("rejected: no such customer")
    assert outcome(Undecodable("not JSON")) == Dead("undecodable: not JSON")


def test_the_most_specific_class_decides():
    retry = {OSError: Backoff(first_s=9, jitter=0), ConnectionError: None}
    assert isinstance(outcome(ConnectionResetError(), 1, retry), Dead)
    assert outcome(FileNotFoundError(), 1, retry) == RetryAfter(9)
    assert outcome(ValueError(), 1, retry) == RetryAfter(1)


def test_no_retry():
    assert outcome(ValueError("x"), 1, None) == Dead("ValueError: x is not retried")


@pytest.mark.parametrize("wrong", [3, {"ValueError": None}, {ValueError: 3}, {3: None}])
def test_a_wrong_retry_is_refused(wrong):
    with pytest.raises(HandlerError, match="retry"):
        RetryPolicy.of(wrong)


@pytest.mark.parametrize("delay_s", [-1, float("nan"), float("inf"), 10**10, 10**400, True, "5"])
def test_retry_refuses_a_delay_that_makes_no_sense(delay_s):
    with pytest.raises(ValueError, match="delay_s"):
        Retry(delay_s=delay_s)


def test_system_exit_and_cancellation_are_failures_never_success():
    assert isinstance(outcome(SystemExit(0)), RetryAfter)
    assert isinstance(outcome(GeneratorExit()), RetryAfter)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Unspeakable(), "(its text cannot be made: RuntimeError)"),
        (ValueError("half \ud83d"), "half ?"),
        (ValueError("x" * 5_000_000), "x" * 1_000),
    ],
)
def test_whatever_an_exception_says_can_be_told(error, text):
    assert text_of(error) == text
    for kind in (error, Reject("x"), Undecodable("x")):
        kind.__cause__ = error
        cause = cause_of(kind, "why")
        assert len(cause.stack.encode()) < 20_000
        assert cause.fingerprint


def test_a_subclass_that_does_not_call_the_constructor_is_decided_about():
    class Later(Retry):
        def __init__(self) -> None:
            self.place = "elsewhere"

    class Never(Retry):
        def __init__(self) -> None:
            self.delay_s = float("inf")

    class Again(AlreadyDone):
        def __init__(self) -> None: ...

    assert outcome(Later(), 1, Backoff(first_s=2, jitter=0)) == RetryAfter(2)
    assert outcome(Never(), 1, Backoff(first_s=2, jitter=0)) == RetryAfter(2)
    assert isinstance(outcome(Again(), 1), Done)
    assert Again().offset == -1
