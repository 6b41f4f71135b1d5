"""Declaring handlers: what is allowed, what is refused and how, and what arrives."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import msgspec
import pytest

from recado import Backoff, Record, Reject, Retry, Worker
from recado.errors import ConfigurationError, HandlerError
from recado.outcomes import Dead, Done, RetryAfter, Stopped
from tests.twin import SETTINGS


@dataclasses.dataclass
class Order:
    id: int
    item: str = "?"


class Payment(msgspec.Struct):
    amount: int


def make_worker() -> Worker:
    return Worker(settings=SETTINGS)


def given(annotation: Any, value: bytes | None, **options: Any) -> tuple[Any, list[Any]]:
    """What a handler with this annotation gets of a value, and the outcome."""
    got: list[Any] = []

    def handle(value):
        got.append(value)

    handle.__annotations__["value"] = annotation
    worker = make_worker()
    worker.handler("orders", **options)(handle)
    record = Record(value, topic="orders", offset=7)
    return worker.test([record] if "batch" in options else record), got


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (bytes, b"\xff", b"\xff"),
        (str, "año".encode(), "año"),
        (dict, b'{"a":1}', {"a": 1}),
        (dict[str, int], b'{"a":1}', {"a": 1}),
        (Any, b"[1,2]", [1, 2]),
        (Any, None, None),
        (int, b"5", 5),
        (Order, b'{"id":1,"item":"x"}', Order(1, "x")),
        ("Order", b'{"id":1}', Order(1)),
        (Payment, b'{"amount":3}', Payment(3)),
        (Payment | None, b'{"amount":3}', Payment(3)),
        (Payment | None, None, None),
        (bytes | None, None, None),
        (str | None, b"", ""),
    ],
)
def test_the_annotation_decides_what_arrives(annotation, value, expected):
    outcome, got = given(annotation, value)
    assert (outcome, got) == (Done(), [expected])


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(str, b"\xff"), (dict, b"[1]"), (dict, b"{"), (Order, b'{"id":"x"}'), (Payment, b"{}"), (str, None),
     (dict, None), (bytes, None), (Payment, None), (dict, b"null")],
)  # fmt: skip
def test_what_does_not_fit_is_undecodable_and_never_reaches_the_handler(annotation, value):
    outcome, got = given(annotation, value)
    assert isinstance(outcome, Dead)
    assert outcome.reason.startswith("undecodable")
    assert got == []


def test_without_annotation_the_record_arrives():
    worker = make_worker()
    got = []

    @worker.handler("orders")
    def handle(record):
        got.append(record)

    sent = Record(b"x", "orders", 1, 2, 3000, b"k", (("h", b"v"),), 2, "g")
    assert worker.test(sent) == Done()
    assert got == [sent]
    assert got[0].timestamp.isoformat() == "1970-01-01T00:00:03+00:00"


@pytest.mark.parametrize("value", [b"no JSON", b'{"offset":1}', None])
@pytest.mark.parametrize(
    ("annotation", "options"),
    [(Record | None, {}), (list[Record | None], {"batch": (10, 0.1)}), (Record | None, {"batch": (10, 0.1)})],
)
def test_a_record_that_may_be_none_arrives_as_it_is(annotation, options, value):
    outcome, got = given(annotation, value, **options)
    record = got[0][0] if options else got[0]
    assert (outcome, record.value, record.offset) == (Done(), value, 7)


def test_many_at_a_time():
    outcome, got = given(list[Order], b'{"id":1}', batch=(10, 0.1))
    assert (outcome, got) == (Done(), [[Order(1)]])
    outcome, got = given(list[Record], b"x", batch=(10, 0.1))
    assert got[0][0].offset == 7


@pytest.mark.parametrize(
    ("annotation", "options"),
    [
        (Order, {"batch": (10, 1)}),
        (list[Order], {}),
        (list, {}),
        (object, {}),
        (functools.partial, {}),
        ("Missing", {}),
        (Record, {"batch": 10}),
        (list[Record], {"batch": (0, 1)}),
        (list[Record], {"batch": (10_001, 1)}),
        (list[Record], {"batch": (10, -1)}),
        (list[Record], {"batch": (10, 8 * 86_400)}),
        (list[Record], {"batch": (10, 10**400)}),
        (list[Record], {"batch": (10, float("nan"))}),
        (list[Record], {"batch": (10, True)}),
        (list[Record], {"batch": (True, 1)}),
        (list[Record], {"batch": (10**400, 1)}),
        (Record, {"concurrency": 0}),
        (Record, {"concurrency": 1.5}),
        (Record, {"concurrency": True}),
        (Record, {"concurrency": 5000}),
        (Record, {"order": "random"}),
        (Record, {"retry": 3}),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_and_named(annotation, options):
    def handle(value): ...

    handle.__annotations__["value"] = annotation
    with pytest.raises(HandlerError):
        make_worker().handler("orders", **options)(handle)


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.0, "8", None, 10**400, 20_001])
def test_a_concurrency_that_cannot_be_is_refused_and_named(concurrency):
    async def handle(record: Record): ...

    with pytest.raises(HandlerError, match="concurrency"):
        make_worker().handler("orders", concurrency=concurrency)(handle)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [*(("group", wrong) for wrong in ["", "  ", "a\nb", "\t", 3, b"group", True, []]),
     *(("dead_letter_headers", wrong) for wrong in ["", None, 3, [], {}]),
     *(("engine", wrong) for wrong in ["", None, 3, []]),
     *(("settings", wrong) for wrong in [{}, "x"])],
)  # fmt: skip
def test_a_worker_that_cannot_be_is_refused_and_its_argument_named(field, wrong):
    with pytest.raises(ConfigurationError, match=rf"Worker\({field}="):
        Worker(**{field: wrong})


async def with_two(record: Record, other: int): ...


def without(): ...


def generator(record: Record):
    yield record


class Class:
    def __init__(self, record: Record): ...


def only_keyword(*, record: Record): ...


@pytest.mark.parametrize("function", [with_two, without, generator, Class, only_keyword, 3])
def test_what_is_no_handler_is_refused(function):
    with pytest.raises(HandlerError):
        make_worker().handler("orders")(function)


@pytest.mark.parametrize(
    "topics",
    [("a b",), ("orders", "orders"), (["x", "x"],), ("^(",), (3,), (None,), ("",), ("  ",), ("a\nb",), ("a" * 250,)],
)
def test_wrong_topics_are_refused(topics):
    with pytest.raises(HandlerError):
        make_worker().handler(*topics)(lambda record: None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"engine": "queue"}, "engine is 'queue'"),
        ({"engine": "share", "exactly_once": True}, "no transactions"),
        ({"engine": "share", "timeout_s": 60}, "at most 25"),
    ],
)
def test_an_engine_that_does_not_exist_or_cannot_do_it_is_refused(options, reason):
    worker = make_worker()

    def declare_and_run():
        worker.handler("orders", **options)(lambda record: None)
        worker.handlers.engine("group")

    with pytest.raises(HandlerError, match=reason):
        declare_and_run()


def test_all_handlers_of_a_worker_have_one_engine():
    worker = make_worker()
    worker.handler("a", engine="share")(lambda record: None)
    worker.handler("b")(lambda record: None)
    assert worker.handlers.engine("share") == "share"
    with pytest.raises(HandlerError, match="engine is group"):
        worker.handlers.engine("group")
    pattern = make_worker()
    pattern.handler("^a.*", engine="share")(lambda record: None)
    with pytest.raises(HandlerError, match="names of topics"):
        pattern.handlers.engine("group")


def test_a_topic_has_one_handler():
    worker = make_worker()
    worker.handler("a", ["b", "c"])(lambda record: None)
    with pytest.raises(HandlerError, match="'b'"):
        worker.handler("b")(lambda record: None)


def test_an_exact_name_beats_a_pattern_and_the_first_pattern_wins():
    worker = make_worker()
    called = []
    worker.handler(r"^orders\..*")(lambda record: called.append("first"))
    worker.handler(r"^orders\.eu.*")(lambda record: called.append("second"))
    worker.handler("orders.eu")(lambda record: called.append("exact"))
    for topic in ("orders.eu", "orders.eu2", "orders.x"):
        worker.test(Record(b"", topic))
    assert called == ["exact", "first", "first"]
    with pytest.raises(HandlerError, match="no handler"):
        worker.test(Record(b"", "other"))


def test_no_topic_means_the_topic_of_the_settings():
    worker = make_worker()
    worker.handler()(lambda record: None)
    assert worker.test(Record(b"", SETTINGS.topic)) == Done()
    with pytest.raises(HandlerError):
        worker.handler()(lambda record: None)


def test_async_handlers_methods_and_partials():
    class Service:
        async def handle(self, value: str):
            assert value == "x"

    worker = make_worker()
    worker.handler("a")(Service().handle)
    worker.handler("b")(functools.partial(lambda extra, record: None, 1))
    assert worker.test(Record(b"x", "a")) == Done()
    assert worker.test(Record(b"x", "b")) == Done()


def test_a_coroutine_that_nobody_awaits_is_no_success():
    async def inner(record): ...

    worker = make_worker()
    worker.handler("orders")(lambda record: inner(record))
    outcome = worker.test(Record(b"x", "orders"))
    assert isinstance(outcome, Stopped)
    assert "async def" in outcome.reason


def test_the_trial_tells_what_would_come_of_it():
    worker = make_worker()

    @worker.handler("orders", retry=Backoff(first_s=3, jitter=0.5, attempts=2))
    def handle(record: Record):
        raise {b"retry": Retry(delay_s=9), b"reject": Reject("no"), b"exit": SystemExit(0)}[record.value]

    assert worker.test(Record(b"retry", "orders")) == RetryAfter(9)
    assert worker.test(Record(b"reject", "orders")) == Dead("rejected: no")
    assert worker.test(Record(b"exit", "orders")) == RetryAfter(3)
    assert worker.test(Record(b"other", "orders")) == RetryAfter(3)
    assert isinstance(worker.test(Record(b"other", "orders", attempt=2)), Dead)


def test_the_decorator_returns_the_function():
    def handle(record: Record): ...

    assert make_worker().handler("orders")(handle) is handle
