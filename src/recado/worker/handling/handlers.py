"""Handlers: what a worker's decorator declares, checked at once, and which handler a topic goes to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from recado.errors import HandlerError
from recado.outcomes.backoff import Backoff, RetryPolicy
from recado.outcomes.breaker import Breaker
from recado.outcomes.values import is_number, is_whole
from recado.settings import is_topic_name
from recado.worker.handling.payload import Payload, payload_of

__all__ = ["ENGINES", "Handler", "Handlers", "declare"]

ORDERS = ("key", "partition", "none")

#: A consumer group, or a share group (KIP-932, a preview).
ENGINES = ("group", "share")

#: A share group lends a record for 30 s: a handler that takes longer has its record given to another one meanwhile.
MOST_SHARE_S = 25.0

#: More threads than this in one process only fight for the interpreter; use ``--processes`` or ``async def``.
MAX_THREADS = 1024

#: More tasks than this in one process wait for one another's memory; the worker holds no more records anyway.
MAX_TASKS = 20_000

#: Longest time limit and longest wait for a batch, in seconds: one week. Timers overflow beyond some weeks.
LONGEST_S = 7 * 86_400.0

#: A batch must fit the worker's budget of records in memory twice over (see ``flow.py``).
MAX_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Handler:
    """One declared handler. ``topics`` empty stands for the topic of the settings."""

    call: Callable[[Any], Any]
    name: str
    topics: tuple[str, ...]
    concurrency: int
    order: str
    policy: RetryPolicy
    batch: tuple[int, float] | None
    timeout_s: float | None
    exactly_once: bool
    #: For how long a done id is remembered, None where ids do not matter.
    window_s: float | None
    #: When it pauses; None where it never does.
    breaker: Breaker | None
    #: "group", "share", or "" where the worker says.
    engine: str
    is_async: bool
    #: Whether what follows a failed record of a key waits with it in the retry topic, not in memory.
    parks: bool
    payload: Payload


def declare(
    function: Callable[[Any], Any],
    *,
    topics: Iterable[str | Iterable[str]],
    concurrency: int,
    order: str,
    retry: Backoff | Mapping[type[BaseException], Backoff | None] | None,
    batch: tuple[int, float] | None,
    timeout_s: float | None = None,
    exactly_once: bool = False,
    deduplicate: timedelta | None = None,
    engine: str | None = None,
    breaker: Breaker | None = None,
) -> Handler:
    """Check a declaration. Raises HandlerError that names the handler and what to change."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    _check_function(function, name)
    is_async = _is_async(function)
    if not is_whole(concurrency) or concurrency < 1:
        raise HandlerError(f"{name}: concurrency is {concurrency!r}; it must be a whole number of 1 or more.")
    if not is_async and concurrency > MAX_THREADS:
        raise HandlerError(f"{name}: concurrency is {concurrency}; a `def` handler may have {MAX_THREADS} threads.")
    if concurrency > MAX_TASKS:
        raise HandlerError(f"{name}: concurrency is {concurrency}; an `async def` handler may have {MAX_TASKS} tasks.")
    if order not in ORDERS:
        raise HandlerError(f"{name}: order is {order!r}; it must be one of {', '.join(ORDERS)}.")
    policy = RetryPolicy.of(retry)
    if order == "none" and policy.keeps_order:
        raise HandlerError(f"{name}: order is 'none', so there is none for keep_order to keep; use order='key'.")
    return Handler(
        call=function,
        name=name,
        topics=_checked_topics(topics, name),
        concurrency=concurrency,
        order=order,
        policy=policy,
        batch=_checked_batch(batch, name),
        timeout_s=_checked_timeout(timeout_s, name),
        exactly_once=_checked_flag(exactly_once, name, "exactly_once"),
        window_s=_checked_window(deduplicate, name),
        breaker=_checked_breaker(breaker, name),
        engine=_checked_engine(engine, name),
        is_async=is_async,
        parks=policy.keeps_order and order == "key" and batch is None,
        payload=payload_of(function, many=batch is not None),
    )


class Handlers:
    """The handlers of one worker. An exact topic name wins over patterns; of patterns the first declared wins."""

    def __init__(self) -> None:
        self.all: list[Handler] = []

    def add(self, handler: Handler) -> None:
        """Take a handler up. Raises HandlerError where a topic has one already."""
        for topic in handler.topics or ("",):
            for other in self.all:
                if topic in (other.topics or ("",)):
                    shown = f"topic {topic!r}" if topic else "the topic of the settings"
                    raise HandlerError(f"{handler.name}: {shown} is {other.name}'s already.")
        self.all.append(handler)

    def subscription(self, default_topic: str) -> list[str]:
        """Every topic name and pattern. Raises HandlerError where the default topic is named twice."""
        names = [topic for handler in self.all for topic in handler.topics or (default_topic,)]
        if len(names) > len(set(names)):
            raise HandlerError(f"topic {default_topic!r}, which RECADO_TOPIC names, has two handlers.")
        return names

    def engine(self, default: str) -> str:
        """How all of them run. Raises HandlerError where they differ, or where one cannot run so."""
        for handler in self.all:
            other, chosen = self.all[0].engine or default, handler.engine or default
            if chosen != other:
                raise HandlerError(f"{handler.name}: engine is {chosen}, but {self.all[0].name}'s is {other}.")
            if chosen == "share":
                _check_share(handler)
        return self.all[0].engine or default

    def find(self, topic: str, default_topic: str) -> Handler | None:
        """The handler of a topic, or None."""
        for handler in self.all:
            if topic in (handler.topics or (default_topic,)):
                return handler
        for handler in self.all:
            if any(pattern.startswith("^") and re.match(pattern, topic) for pattern in handler.topics):
                return handler
        return None


def _check_share(handler: Handler) -> None:
    if handler.policy.keeps_order:
        raise HandlerError(f"{handler.name}: keep_order needs engine='group'; a share group keeps no order.")
    if handler.exactly_once:
        raise HandlerError(f"{handler.name}: exactly_once needs engine='group'; a share group has no transactions.")
    if patterns := [topic for topic in handler.topics if topic.startswith("^")]:
        raise HandlerError(f"{handler.name}: engine='share' takes names of topics, not the pattern {patterns[0]!r}.")
    if handler.timeout_s is not None and handler.timeout_s > MOST_SHARE_S:
        rule = f"a share group lends records for 30 s, so at most {MOST_SHARE_S:g}"
        raise HandlerError(f"{handler.name}: timeout_s is {handler.timeout_s:g}; {rule}.")


def _check_function(function: Any, name: str) -> None:
    if not callable(function):
        raise HandlerError(f"{function!r} is no function; use @worker.handler(…) above a function.")
    if inspect.isclass(function):
        raise HandlerError(f"{name}: a class is no handler; decorate a function.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise HandlerError(f"{name}: a generator is no handler, its body would never run; use return, not yield.")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # not a test for being callable


def _checked_topics(topics: Iterable[str | Iterable[str]], name: str) -> tuple[str, ...]:
    flat: list[str] = []
    for topic in topics:
        flat.extend(topic if isinstance(topic, Iterable) and not isinstance(topic, str) else [topic])
    for topic in flat:
        _check_topic(topic, name)
    if len(set(flat)) < len(flat):
        raise HandlerError(f"{name}: a topic is named twice: {', '.join(flat)}.")
    return tuple(flat)


def _check_topic(topic: Any, name: str) -> None:
    if not isinstance(topic, str):
        raise HandlerError(f"{name}: {topic!r} is no topic; give names or a pattern that starts with ^.")
    if not topic.startswith("^"):
        if not is_topic_name(topic):
            raise HandlerError(f"{name}: {topic!r} is no topic name. (A pattern starts with ^.)")
        return
    try:
        re.compile(topic)
    except re.error as error:
        raise HandlerError(f"{name}: the pattern {topic!r} is no regular expression: {error}.") from error


def _checked_batch(batch: Any, name: str) -> tuple[int, float] | None:
    if batch is None:
        return None
    good = isinstance(batch, tuple) and len(batch) == 2 and is_whole(batch[0]) and is_number(batch[1])
    if not good or not 1 <= batch[0] <= MAX_BATCH or not 0 <= batch[1] <= LONGEST_S:
        rule = f"(size, wait_s): 1 to {MAX_BATCH} records, and how many seconds to wait for them, a week at most"
        raise HandlerError(f"{name}: batch is {batch!r}; it must be {rule}.")
    return batch[0], float(batch[1])


def _checked_timeout(timeout_s: Any, name: str) -> float | None:
    if timeout_s is None:
        return None
    if not is_number(timeout_s) or not 0 < timeout_s <= LONGEST_S:
        raise HandlerError(f"{name}: timeout_s is {timeout_s!r}; it must be above 0 seconds and at most a week.")
    return float(timeout_s)


def _checked_breaker(breaker: Any, name: str) -> Breaker | None:
    if breaker is not None and not isinstance(breaker, Breaker):
        raise HandlerError(f"{name}: breaker is {breaker!r}; it must be a Breaker or None.")
    return breaker


def _checked_engine(engine: Any, name: str) -> str:
    if engine is not None and engine not in ENGINES:
        raise HandlerError(f"{name}: engine is {engine!r}; it must be one of {', '.join(ENGINES)}.")
    return engine or ""


def _checked_window(window: Any, name: str) -> float | None:
    if window is None:
        return None
    if not isinstance(window, timedelta) or window <= timedelta(0):
        raise HandlerError(f"{name}: deduplicate is {window!r}; it must be a timedelta above 0, or None.")
    return window.total_seconds()


def _checked_flag(value: Any, name: str, field: str) -> bool:
    if not isinstance(value, bool):
        raise HandlerError(f"{name}: {field} is {value!r}; it must be True or False.")
    return value
