"""Handlers with ``deduplicate``: a second copy waits for the first and is skipped, whoever dies in between."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from recado import AlreadyDone, Backoff, Record, Reject, Retry, Worker, offset_table
from recado.errors import HandlerError
from recado.kafka.memory import MemoryKafka
from recado.record import Outgoing, TopicPartition
from recado.worker.handling import done_ids
from recado.worker.handling.done_ids import Claim, DoneIds, Verdict
from tests.programs import eventually
from tests.twin import GROUP, SETTINGS, committed, member, wait_committed

DAY = timedelta(hours=24)
ONE = Claim("orders", "one", "0/1")
TWIN = Claim("orders", "one", "0/2")


@pytest.fixture
def settings(tmp_path):
    import msgspec

    return msgspec.structs.replace(SETTINGS, data_dir=tmp_path)


def send(kafka: MemoryKafka, *ids: str, value: bytes = b"x", key: bytes | None = None) -> None:
    for name in ids:
        kafka.append(Outgoing("orders", value, name, key, [("recado-id", name.encode())]))


def skipped() -> float:
    return REGISTRY.get_sample_value("recado_worker_records_total", {"topic": "orders", "outcome": "duplicate"}) or 0


@pytest.fixture
def stores(tmp_path):
    opened: list[DoneIds] = []

    def make() -> DoneIds:
        opened.append(DoneIds(tmp_path, "group"))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def test_a_claim_is_one_processes_until_it_is_done_released_or_its_process_is_gone(stores):
    first, second = stores(), stores()
    assert first.claim([ONE, TWIN], 60) == [Verdict.MINE, Verdict.BUSY]
    assert first.claim([ONE], 60) == [Verdict.MINE], "the same record, again"
    assert second.claim([ONE, TWIN], 60) == [Verdict.BUSY, Verdict.BUSY]
    first.release([ONE])
    assert second.claim([TWIN], 60) == [Verdict.MINE]
    assert first.claim([ONE], 60) == [Verdict.BUSY]
    second.close()
    assert first.claim([ONE], 60) == [Verdict.MINE]
    first.done([ONE])
    assert stores().claim([TWIN, ONE, Claim("other", "one", "0/1")], 60) == [Verdict.DONE, Verdict.DONE, Verdict.MINE]


def test_a_process_that_stands_still_loses_its_claims_and_what_is_old_is_forgotten(stores, monkeypatch):
    first, second = stores(), stores()
    first.claim([ONE], 60)
    now = time.time()
    monkeypatch.setattr(done_ids.time, "time", lambda: now + done_ids.LEASE_S - 1)
    assert second.claim([TWIN], 60) == [Verdict.BUSY]
    monkeypatch.setattr(done_ids.time, "time", lambda: now + done_ids.LEASE_S + 1)
    assert second.claim([TWIN], 60) == [Verdict.MINE]
    second.done([TWIN])
    monkeypatch.setattr(done_ids.time, "time", lambda: now + 100)
    assert first.claim([ONE], 60) == [Verdict.MINE], "it was done before the window"
    second.done([TWIN])
    monkeypatch.setattr(done_ids.time, "time", lambda: now + 300)
    second.purge(60)
    rows = sqlite3.connect(second.path)
    assert rows.execute("SELECT count(*) FROM ids").fetchone() == (0,)
    rows.close()


@pytest.mark.parametrize("how", ["def", "async", "batch", "process"])
def test_a_second_copy_is_skipped_and_a_retry_is_not(how, settings):
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    calls: list[str] = []
    journal = settings.data_dir / "journal"
    options = {"deduplicate": DAY, "retry": Backoff(first_s=0, jitter=0, attempts=3)}

    def handle(record: Record):
        with journal.open("a") as file:
            file.write(f"{record.id}:{record.attempt}\n")
        if record.id == "b" and record.attempt == 1:
            raise Retry(delay_s=0)

    if how == "async":

        @worker.handler("orders", **options)
        async def handle_async(record: Record):
            handle(record)

    elif how == "batch":

        @worker.handler("orders", batch=(1, 0.01), **options)
        def handle_many(records: list[Record]):
            handle(records[0])

    else:
        worker.handler("orders", timeout_s=20 if how == "process" else None, **options)(handle)
    before = skipped()
    send(kafka, "a", "b", "a", "c", "b", "a")
    with member(worker, kafka, settings):
        wait_committed(kafka, 6)
    calls = journal.read_text().split()
    assert sorted(calls) == ["a:1", "b:1", "b:2", "c:1"]
    assert skipped() == before + 3


def test_a_second_copy_waits_for_the_first_and_other_records_do_not(settings):
    kafka, worker, go, calls = MemoryKafka({"orders": 2}), Worker(), threading.Event(), []

    @worker.handler("orders", concurrency=4, deduplicate=DAY)
    def handle(record: Record):
        calls.append(record.id)
        if record.id == "slow":
            assert go.wait(20)

    kafka.append(Outgoing("orders", b"x", "slow", None, [("recado-id", b"slow")], 0))
    with member(worker, kafka, settings):
        eventually(lambda: calls == ["slow"])
        kafka.append(Outgoing("orders", b"x", "slow", None, [("recado-id", b"slow")], 1))
        kafka.append(Outgoing("orders", b"x", "quick", None, [("recado-id", b"quick")], 1))
        eventually(lambda: "quick" in calls)
        time.sleep(0.5)
        assert committed(kafka, partition=1) in (None, 0)
        go.set()
        wait_committed(kafka, 1, partition=0)
        wait_committed(kafka, 2, partition=1)
    assert sorted(calls) == ["quick", "slow"]


@pytest.mark.parametrize(("order", "free"), [("key", [b"other", None]), ("partition", [])])
def test_nothing_overtakes_a_record_that_waits_for_another_process(settings, order, free):
    kafka, worker, calls = MemoryKafka({"orders": 1}), Worker(), []
    worker.handler("orders", concurrency=4, order=order, deduplicate=DAY)(lambda record: calls.append(record.id))
    another = DoneIds(settings.data_dir / "done-ids", GROUP)
    another.claim([Claim("orders", "first", "0/0")], DAY.total_seconds())
    send(kafka, "first", "second", key=b"k")
    send(kafka, "other", key=b"other")
    send(kafka, "none")
    with member(worker, kafka, settings):
        eventually(lambda: len(calls) == len(free))
        send(kafka, "third", key=b"k")  # in a later read
        time.sleep(0.5)
        assert len(calls) == len(free), calls
        another.close()
        wait_committed(kafka, 5)
    assert [name for name in calls if name in ("first", "second", "third")] == ["first", "second", "third"]


def test_a_second_copy_whose_key_was_parked_meanwhile_waits_in_the_order_of_its_key(settings):
    kafka, worker, go, calls = MemoryKafka({"orders": 1}), Worker(), threading.Event(), []

    @worker.handler(
        "orders", concurrency=4, deduplicate=DAY, retry=Backoff(first_s=2.0, factor=1, jitter=0, keep_order=True)
    )
    def handle(record: Record):
        assert go.wait(20)
        if record.id == "bad" and record.attempt == 1:
            raise ConnectionError("away")
        calls.append(record.id)

    send(kafka, "bad", "next", "next", "last", key=b"k")
    with member(worker, kafka, settings):
        time.sleep(0.5)  # until the copy waits
        go.set()
        eventually(lambda: "last" in calls, within_s=15)
        wait_committed(kafka, 4)
    assert calls == ["bad", "next", "last"]


def test_when_the_first_copy_fails_for_good_the_second_is_handled(settings):
    kafka, worker, calls = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", deduplicate=DAY)
    def handle(record: Record):
        calls.append(record.offset)
        if record.offset == 0:
            raise Reject("no")

    send(kafka, "a", "a")
    with member(worker, kafka, settings):
        wait_committed(kafka, 2)
    assert calls == [0, 1]


def test_what_was_done_is_remembered_by_the_next_process_and_not_by_another_group(settings):
    kafka, calls = MemoryKafka({"orders": 1}), []

    def worker() -> Worker:
        made = Worker()
        made.handler("orders", deduplicate=DAY)(lambda record: calls.append(record.offset))
        return made

    send(kafka, "a")
    with member(worker(), kafka, settings):
        wait_committed(kafka, 1)
    send(kafka, "a", "b")
    with member(worker(), kafka, settings):
        wait_committed(kafka, 3)
    assert calls == [0, 2]


def test_an_id_whose_output_kafka_does_not_have_is_not_done(settings):
    """It is done when what its handler sent is confirmed: a crash before that must not skip the record."""
    kafka, worker, stop = MemoryKafka({"orders": 1, "out": 1}), Worker(), threading.Event()
    worker.handler("orders", deduplicate=DAY)(lambda record: Record(b"y", "out"))
    held = []
    real = kafka.outlet

    def outlet():
        made = real()
        send_on = made.producer.send
        made.producer.send = lambda delivery: (held.append(delivery), stop.is_set() and send_on(delivery))
        return made

    kafka.outlet = outlet
    send(kafka, "a")
    with member(worker, kafka, settings) as running:
        eventually(lambda: held)
        running.worker.stop()
        running.worker.stop()
        assert running.join() == 3
    again = Worker()
    again.handler("orders", deduplicate=DAY)(lambda record: Record(b"y", "out"))
    stop.set()
    with member(again, kafka, settings):
        wait_committed(kafka, 1)
    assert len(kafka.logs[TopicPartition("out", 0)]) == 1


def test_while_the_store_fails_records_wait_and_it_says_so(settings, monkeypatch):
    kafka, worker, calls = MemoryKafka({"orders": 1}), Worker(), []
    worker.handler("orders", deduplicate=DAY)(lambda record: calls.append(record.offset))
    good = threading.Event()
    real = DoneIds.claim

    def claim(self, claims, window_s):
        if not good.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return real(self, claims, window_s)

    monkeypatch.setattr(DoneIds, "claim", claim)
    send(kafka, "a", "b")
    with member(worker, kafka, settings):
        time.sleep(0.5)
        assert calls == []
        good.set()
        wait_committed(kafka, 2)
    assert sorted(calls) == [0, 1]


def test_a_revoked_partitions_claims_are_free_for_its_next_owner(settings):
    kafka, go, calls = MemoryKafka({"orders": 2}), threading.Event(), []

    def worker() -> Worker:
        made = Worker()

        @made.handler("orders", deduplicate=DAY)
        def handle(record: Record):
            calls.append((record.partition, record.offset))
            assert go.wait(20)

        return made

    for partition in (0, 1):
        for number in range(3):
            name = f"{partition}-{number}"
            kafka.append(Outgoing("orders", b"x", name, None, [("recado-id", name.encode())], partition))
    with member(worker(), kafka, settings):
        eventually(lambda: calls)
        threading.Timer(0.5, go.set).start()
        with member(worker(), kafka, settings):
            wait_committed(kafka, 3, partition=0)
            wait_committed(kafka, 3, partition=1)
    assert len(calls) == len(set(calls)) == 6


@pytest.mark.parametrize("wrong", [24, timedelta(0), "1d"])
def test_deduplicate_must_be_a_timedelta(wrong):
    with pytest.raises(HandlerError, match="deduplicate"):
        Worker().handler("orders", deduplicate=wrong)(lambda record: None)


def test_a_row_in_the_users_own_transaction_makes_its_effects_happen_once(tmp_path):
    kafka, worker, path = MemoryKafka({"orders": 1}), Worker(), tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE paid(id TEXT)")
        offset_table(db)
    db.close()

    @worker.handler("orders")
    def handle(record: Record):
        connection = sqlite3.connect(path)
        try:
            with connection:
                record.offset_in(connection)
                connection.execute("INSERT INTO paid VALUES(?)", (record.id,))
        finally:
            connection.close()
        if record.offset == 1 and record.attempt == 1:
            raise Retry(delay_s=0)  # after its transaction: as a kill would

    before = skipped()
    send(kafka, "a", "b", "a", "c")
    with member(worker, kafka):
        wait_committed(kafka, 4)
    db = sqlite3.connect(path)
    assert [row[0] for row in db.execute("SELECT id FROM paid ORDER BY rowid")] == ["a", "b", "c"]
    db.close()
    assert skipped() == before + 2


def test_in_a_batch_only_the_record_that_is_done_is_taken_out(tmp_path):
    kafka, worker, calls = MemoryKafka({"orders": 1}), Worker(), []
    db = sqlite3.connect(tmp_path / "shop.sqlite", check_same_thread=False)
    offset_table(db)

    @worker.handler("orders", batch=(4, 0.05))
    def handle(records: list[Record]):
        calls.append([record.id for record in records])
        with db:
            for record in records:
                record.offset_in(db)

    send(kafka, "a", "b", "a", "c")
    with member(worker, kafka):
        wait_committed(kafka, 4)
    db.close()
    assert calls == [["a", "b", "a", "c"], ["a", "b", "c"]]


def test_the_trial_and_other_connections():
    worker = Worker()
    worker.handler("orders")(lambda record: record.offset_in(object()))
    assert "does not know how builtins.object" in worker.test(Record(b"x", "orders")).reason
    db = sqlite3.connect(":memory:")
    offset_table(db)
    Record(b"x", "orders").offset_in(db)
    with pytest.raises(AlreadyDone):
        Record(b"x", "orders").offset_in(db)
    db.close()
