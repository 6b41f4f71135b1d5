"""The spool with a Kafka of which the test decides every report: nothing lost, nothing twice, everything in order."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from recado.errors import (
    Backpressure,
    DeliveryFailed,
    DeliveryUnknown,
    NotAllowed,
    RecordTooLarge,
    SpoolFailed,
    SpoolFull,
    UnknownTopic,
)
from recado.gateway.spool import forwarder as forwarding
from recado.gateway.spool.row import REFUSED
from recado.gateway.spool.store import Store
from recado.kafka.delivery import Delivery, Summary
from tests.programs import eventually
from tests.spools import Kept, Scripted, disk_ids, empty, keep, on_disk, record, spooling, there


@pytest.fixture
def kafka() -> Scripted:
    return Scripted()


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "HOLD_S", 0.05)
    monkeypatch.setattr(forwarding, "REST_S", 0.01)


def sent(kafka: Scripted, *ids: str) -> None:
    eventually(lambda: len(kafka.sent) >= len(ids), why=lambda: str(kafka.ids()))
    assert kafka.ids() == list(ids)


# --- the plain way -------------------------------------------------------------------------------------------------


def test_what_is_kept_is_on_disk_before_anybody_is_told_and_until_kafka_has_it(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        seen: list[list[str]] = []
        delivery = Delivery([record("a"), record("b")], lambda delivery: None)
        told = threading.Event()
        spool.keep(delivery, range(2), under_way=False, on_end=lambda: (seen.append(disk_ids(tmp_path)), told.set()))
        assert told.wait(10)
        assert seen == [["a", "b"]]
        eventually(lambda: len(kafka.waiting) == 2)
        assert disk_ids(tmp_path) == ["a", "b"]
        kafka.report(there(0))
        eventually(lambda: disk_ids(tmp_path) == ["b"])
        kafka.report(there(1))
        empty(spool)
    assert disk_ids(tmp_path) == []
    assert kafka.ids() == ["a", "b"]


def test_who_waits_is_told_kafkas_word(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        kept = keep(spool, "a", "b")
        eventually(lambda: len(kafka.waiting) == 2)
        kafka.report(there(7))
        kafka.report(RecordTooLarge("too large"))
        assert kept.confirmed.wait(10)
        assert kept.delivery.fates[0] == there(7)
        assert isinstance(kept.delivery.fates[1], RecordTooLarge)
        # Its sender knows: nobody needs to look at it.
        empty(spool)
        assert spool.refused == 0


def test_what_kafka_refuses_after_its_sender_left_is_set_aside(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        kept = keep(spool, "a", "b")
        spool.forget(kept.keeping)
        eventually(lambda: len(kafka.waiting) == 2)
        kafka.report(DeliveryFailed("no"))
        kafka.report(there(0))
        eventually(lambda: spool.refused == 1 and not spool.lines())
        assert [(row.record.id, row.state, row.reason) for row in on_disk(tmp_path)] == [("a", REFUSED, "no")]
        assert spool.held_bytes() > 0  # it keeps its room until somebody looks
        assert kept.delivery.fates == [None, None]
    with spooling(tmp_path, kafka) as spool:
        assert spool.refused == 1
        assert spool.depth().rows == 0
    assert kafka.ids() == ["a", "b"]


def test_what_waits_goes_on_after_a_restart_in_order(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        keep(spool, *(f"{n}" for n in range(50)), asked=True)
        keep(spool, "other", topic="u", asked=True)
    kafka.sent.clear()
    kafka.waiting.clear()
    with spooling(tmp_path, kafka) as spool:
        assert spool.depth().rows == 51
        eventually(lambda: len(kafka.sent) == 51)
        assert [r.id for r in kafka.sent if r.topic == "t"] == [f"{n}" for n in range(50)]
        kafka.confirm()
        empty(spool)


def test_a_record_keeps_the_moment_at_which_it_was_accepted(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        Kept(spool, [record("a"), record("b", timestamp_ms=5)], asked=True).wait()
        eventually(lambda: len(kafka.sent) == 2)
        rows = on_disk(tmp_path)
        assert [sent.timestamp_ms for sent in kafka.sent] == [rows[0].kept_ms, 5]


def test_bytes_keys_and_headers_survive_the_disk(tmp_path, kafka):
    whole = record("í", value=bytes(range(256)), key=b"\0k", headers=[("h", b"\xff"), ("h", b"")], partition=3)
    tombstone = record("gone", value=None)
    with spooling(tmp_path, kafka) as spool:
        Kept(spool, [whole, tombstone], asked=True).wait()
        eventually(lambda: len(kafka.sent) == 2)
    first, second = kafka.sent
    assert (first.value, first.key, first.headers, first.partition) == (whole.value, b"\0k", whole.headers, 3)
    assert second.value is None


# --- records that are under way ------------------------------------------------------------------------------------


def under_way(spool, *ids, delivery=None):
    """Records whose deadline passed while Kafka had them."""
    records = [record(id_) for id_ in ids]
    delivery = delivery or Delivery(records, spool.completed)
    return Kept(spool, records, delivery=delivery, under_way=True).wait()


@pytest.mark.parametrize("kind", [Delivery, Summary])
def test_what_is_under_way_is_not_sent_again_and_holds_back_what_comes_after_it(tmp_path, kafka, kind):
    with spooling(tmp_path, kafka) as spool:
        delivery = kind([record("a"), record("b")], spool.completed)
        under_way(spool, "a", "b", delivery=delivery)
        keep(spool, "c", asked=True)
        keep(spool, "elsewhere", topic="u", asked=True)
        sent(kafka, "elsewhere")
        assert spool.holds(delivery)
        delivery.settle(1, there(1))
        delivery.settle(0, there(0))
        sent(kafka, "elsewhere", "c")
        kafka.confirm()
        empty(spool)
    assert disk_ids(tmp_path) == []


@pytest.mark.parametrize("kind", [Delivery, Summary])
def test_what_is_under_way_with_an_unknown_outcome_is_sent_in_its_place(tmp_path, kafka, kind):
    with spooling(tmp_path, kafka) as spool:
        delivery = kind([record("a"), record("b"), record("c")], spool.completed)
        under_way(spool, "a", "b", "c", delivery=delivery)
        keep(spool, "d", asked=True)
        delivery.settle(0, DeliveryUnknown("?"))
        delivery.settle(1, there(0))
        delivery.settle(2, DeliveryUnknown("?"))
        sent(kafka, "a", "c", "d")
        kafka.confirm()
        empty(spool)


def test_what_is_under_way_and_refused_is_set_aside(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        kept = under_way(spool, "a", "b")
        kept.delivery.settle(0, RecordTooLarge("too large"))
        kept.delivery.settle(1, there(0))
        eventually(lambda: not spool.lines())
        assert spool.refused == 1
        assert [(row.record.id, row.reason) for row in on_disk(tmp_path)] == [("a", "too large")]


def test_reports_that_came_before_the_disk_was_done_count(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        delivery = Delivery([record("a"), record("b")], spool.completed)
        delivery.settle(0, there(0))
        delivery.settle(1, DeliveryUnknown("?"))
        under_way(spool, "a", "b", delivery=delivery)
        sent(kafka, "b")
        kafka.confirm()
        empty(spool)


def test_the_last_report_at_the_very_moment_of_the_commit_counts_once(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        for number in range(200):
            delivery = Delivery([record(f"{number}")], spool.completed)
            reporter = threading.Thread(target=delivery.settle, args=(0, there(number)))
            ended = threading.Event()
            spool.keep(delivery, [0], under_way=True, on_end=ended.set)
            reporter.start()
            assert ended.wait(10)
            reporter.join(10)
        empty(spool)
    assert kafka.sent == []
    assert disk_ids(tmp_path) == []


# --- going back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [DeliveryUnknown("?"), UnknownTopic("no"), NotAllowed("no"), Backpressure("full")])
def test_after_a_failure_it_goes_back_and_sends_in_order_what_is_not_confirmed(tmp_path, kafka, error):
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", "b", "c", "d", asked=True)
        sent(kafka, "a", "b", "c", "d")
        kafka.report(there(0), "a")
        kafka.report(error, "b")
        kafka.report(there(2), "c")
        assert len(kafka.sent) == 4  # it waits for d's report
        kafka.report(error, "d")
        sent(kafka, "a", "b", "c", "d", "b", "d")
        keep(spool, "e", asked=True)
        sent(kafka, "a", "b", "c", "d", "b", "d", "e")
        kafka.confirm()
        empty(spool)
        assert spool.refused == 0


def test_a_producer_that_did_not_know_is_replaced_once_nothing_is_under_way(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", "b", asked=True)
        sent(kafka, "a", "b")
        kafka.report(DeliveryUnknown("poisoned"), "a")
        keep(spool, "c", asked=True, topic="u")
        assert kafka.made == 1
        kafka.report(there(0), "b")
        eventually(lambda: kafka.made == 2 and len(kafka.sent) == 4)
        kafka.confirm()
        empty(spool)


def test_a_producer_that_cannot_be_made_is_tried_again(tmp_path, kafka):
    tries = []

    def make() -> Scripted:
        tries.append(1)
        if len(tries) < 3:
            raise SpoolFailed("not yet")
        return kafka

    kafka.make = make
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", asked=True)
        sent(kafka, "a")
        kafka.confirm()
        empty(spool)


def test_a_topic_that_is_gone_does_not_hold_up_another(tmp_path, kafka, monkeypatch):
    monkeypatch.setattr(forwarding, "HOLD_S", 1000.0)
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", asked=True)
        sent(kafka, "a")
        kafka.report(UnknownTopic("gone"))
        assert spool.is_stalled(["t"])
        keep(spool, "b", asked=True, topic="u")
        sent(kafka, "a", "b")
        kafka.confirm()
        eventually(lambda: [line.topic for line in spool.lines()] == ["t"])
        assert disk_ids(tmp_path) == ["a"]


def test_a_held_topics_rows_are_pending_to_a_flush(tmp_path, kafka, monkeypatch):
    monkeypatch.setattr(forwarding, "HOLD_S", 1000.0)
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", "b", asked=True)
        sent(kafka, "a", "b")
        marks = spool.mark()
        for _ in range(2):
            kafka.report(UnknownTopic("gone"))
        assert spool.pending(marks) == 2


# --- marks ---------------------------------------------------------------------------------------------------------


def test_a_mark_counts_exactly_what_was_there(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        late = under_way(spool, "a")
        keep(spool, "b", "c", asked=True)
        marks = spool.mark()
        assert spool.pending(marks) == 3
        keep(spool, "d", asked=True)
        late.delivery.settle(0, there(0))
        assert spool.pending(marks) == 2
        sent(kafka, "b", "c", "d")
        kafka.report(there(3), "d")
        assert spool.pending(marks) == 2
        kafka.report(there(1), "c")
        assert spool.pending(marks) == 1
        kafka.report(RecordTooLarge("no"), "b")
        assert spool.pending(marks) == 0


def test_a_mark_ends_though_its_topic_goes_on(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        late = under_way(spool, "a")
        marks = spool.mark()
        late.delivery.settle(0, there(0))
        keep(spool, "b", asked=True)
        assert spool.pending(marks) == 0


# --- the disk ------------------------------------------------------------------------------------------------------


def test_over_its_budget_nothing_is_accepted_and_the_budget_stays_exact(tmp_path, kafka):
    with spooling(tmp_path, kafka, max_bytes=1_000) as spool:
        for _ in range(50):
            refused = Kept(spool, [record("big", value=b"x" * 2_000)])
            assert refused.ended.is_set()  # at once
            assert spool.withdraw(refused.keeping)
            assert isinstance(refused.keeping.error, SpoolFull)
        assert spool.held_bytes() == 0
        Kept(spool, [record("a", value=b"x" * 500)], asked=True).wait()
        assert isinstance(Kept(spool, [record("b", value=b"x" * 500)]).keeping.error, SpoolFull)
        sent(kafka, "a")
        kafka.confirm()
        empty(spool)
        assert Kept(spool, [record("c", value=b"x" * 500)], asked=True).wait().keeping.is_kept
    assert "big" not in kafka.ids()


def test_headers_count_in_the_budget(tmp_path, kafka):
    with spooling(tmp_path, kafka, max_bytes=1_000) as spool:
        kept = Kept(spool, [record("a", headers=[("h", b"x" * 2_000)])])
        assert isinstance(kept.keeping.error, SpoolFull)


class Broken(Store):
    """A disk that fails when the test says so."""

    error: Exception | None = None
    at = threading.Event()
    go_on = threading.Event()

    def _check_there(self):
        if Broken.error is not None:
            raise Broken.error
        super()._check_there()


@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setattr("recado.gateway.spool.folder.Store", Broken)
    Broken.error = None
    yield Broken
    Broken.error = None


def disk_full():
    import sqlite3

    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_a_failed_commit_is_told_and_nothing_of_it_is_ever_sent(tmp_path, kafka, broken):
    with spooling(tmp_path, kafka) as spool:
        broken.error = disk_full()
        refused = [keep(spool, "a", asked=True), keep(spool, "b", asked=True, topic="fresh")]
        for kept in refused:
            assert isinstance(kept.keeping.error, SpoolFull)
            assert not kept.keeping.is_kept
            assert spool.withdraw(kept.keeping)
        assert "disk is full" in spool.why_not()
        assert spool.held_bytes() == 0
        broken.error = None
        eventually(lambda: spool.why_not() == "")
        keep(spool, "c", asked=True, topic="fresh")
        keep(spool, "d", asked=True)
        eventually(lambda: len(kafka.sent) == 2)
        kafka.confirm()
        empty(spool)
    assert sorted(kafka.ids()) == ["c", "d"]


def test_an_error_that_is_not_sqlites_own_does_not_end_the_writer(tmp_path, kafka, broken):
    import sqlite3

    with spooling(tmp_path, kafka) as spool:
        broken.error = sqlite3.ProgrammingError("without a code")
        assert isinstance(keep(spool, "a").keeping.error, SpoolFailed)
        broken.error = None
        assert keep(spool, "b", asked=True).keeping.is_kept


def test_strike_outs_that_fail_are_written_later_and_nothing_is_sent_twice(tmp_path, kafka, broken):
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", "b", asked=True)
        sent(kafka, "a", "b")
        broken.error = disk_full()
        kafka.report(there(0), "a")
        kafka.report(DeliveryUnknown("?"), "b")
        eventually(lambda: spool.why_not() != "" and len(kafka.sent) == 3)
        assert kafka.ids() == ["a", "b", "b"]
        broken.error = None
        kafka.confirm()
        empty(spool)


def test_a_spool_whose_file_was_deleted_accepts_nothing(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        spool.path.unlink()
        kept = keep(spool, "a")
        assert isinstance(kept.keeping.error, SpoolFailed)
        assert "is gone" in str(kept.keeping.error)
        spool.path.write_bytes(b"")
        assert isinstance(keep(spool, "b").keeping.error, SpoolFailed)


def test_a_request_that_gives_up_waiting_for_the_disk_is_not_written(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        entered, go_on = threading.Event(), threading.Event()
        inner = spool._store.add

        def slow(rows, kept_ms):
            entered.set()
            assert go_on.wait(10)
            inner(rows, kept_ms)

        spool._store.add = slow
        first = Kept(spool, [record("a")])
        assert entered.wait(10)
        second = Kept(spool, [record("b")])
        assert spool.withdraw(second.keeping)  # not begun: it never will be
        assert not spool.withdraw(first.keeping)  # begun: nobody knows
        spool.forget(first.keeping)
        go_on.set()
        first.wait()
        sent(kafka, "a")
        assert not spool._waiting  # nobody waits, though it was kept after its request was answered
        kafka.report(RecordTooLarge("no"))
        eventually(lambda: spool.refused == 1)  # and so it is set aside, not dropped
        assert disk_ids(tmp_path) == ["a"]


# --- races ---------------------------------------------------------------------------------------------------------


def test_a_committed_row_is_not_sent_before_it_is_known_who_waits_for_it(tmp_path, kafka):
    """The forwarder reads the disk, and sees rows of which the spool was not told yet."""
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", asked=True)
        sent(kafka, "a")
        committed, go_on, inner = threading.Event(), threading.Event(), spool.on_kept

        def late(keeping, kept_ms):
            committed.set()
            assert go_on.wait(10)
            inner(keeping, kept_ms)

        spool.on_kept = late
        records = [record("b")]
        delivery = Delivery(records, spool.completed)
        kept = Kept(spool, records, delivery=delivery, under_way=True)
        assert committed.wait(10)
        assert disk_ids(tmp_path) == ["a", "b"]
        kafka.report(DeliveryUnknown("?"), "a")  # it goes back, and reads a and b
        eventually(lambda: kafka.ids() == ["a", "a"])
        spool._forwarder.wake()
        go_on.set()
        kept.wait()
        kafka.confirm()
        delivery.settle(0, there(1))
        empty(spool)
    assert kafka.ids() == ["a", "a"]


def test_a_row_that_is_struck_out_while_the_forwarder_holds_it_is_not_sent(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        late = under_way(spool, "a")
        read, go_on, inner = threading.Event(), threading.Event(), spool._forwarder._store.read

        def slow(*arguments):
            rows = inner(*arguments)
            if not read.is_set():
                read.set()
                assert go_on.wait(10)
            return rows

        spool._forwarder._store.read = slow
        assert read.wait(10)  # the forwarder has read a, and is held
        late.delivery.settle(0, there(0))
        eventually(lambda: disk_ids(tmp_path) == [])
        keep(spool, "b", asked=True)  # a new row, on the same line
        go_on.set()
        sent(kafka, "b")
        kafka.confirm()
        empty(spool)
    assert kafka.ids() == ["b"]


def test_forgetting_and_a_report_at_the_same_moment_agree(tmp_path, kafka):
    """Told "accepted" and refused by Kafka is set aside; told Kafka's word is gone."""
    with spooling(tmp_path, kafka) as spool:
        told_accepted = 0
        for number in range(100):
            kept = keep(spool, f"{number}")
            eventually(lambda: kafka.waiting)
            reporter = threading.Thread(target=kafka.report, args=(RecordTooLarge("no"),))
            reporter.start()
            spool.forget(kept.keeping)
            told_accepted += kept.delivery.fates[0] is None
            reporter.join(10)
        eventually(lambda: not spool.lines())
        assert spool.refused == told_accepted
    assert len(disk_ids(tmp_path)) == told_accepted


def test_strike_outs_of_many_threads_all_reach_the_disk(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        for round_ in range(20):
            ids = [f"{round_}-{n}" for n in range(16)]
            for id_ in ids:
                keep(spool, id_, asked=True, topic=id_)
            eventually(lambda: len(kafka.waiting) == 16)
            threads = [threading.Thread(target=kafka.report, args=(there(0), id_)) for id_ in ids]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            empty(spool)


def test_a_long_outage_takes_no_memory_per_record(tmp_path, kafka, monkeypatch):
    monkeypatch.setattr(forwarding, "WINDOW_ROWS", 10)
    monkeypatch.setattr(forwarding, "READ_ROWS", 10)
    now = [1_000_000]
    with spooling(tmp_path, kafka) as spool:
        spool._writer._now_ms = lambda: now[0]
        for number in range(300):
            now[0] += 60_000
            kept = keep(spool, *(f"{number}-{n}" for n in range(10)))
            spool.forget(kept.keeping)
        (line,) = spool.lines()
        assert line.rows == 3_000
        assert len(line.in_flight) <= 20
        assert not spool._waiting
        assert not line.settled
        assert len(line._marks) <= 256
        assert abs(line.oldest_ms() - 1_060_000) < 1_000
        kafka.confirms = True
        kafka.confirm()
        empty(spool)
    assert kafka.ids() == [f"{number}-{n}" for number in range(300) for n in range(10)]


def test_large_records_are_read_a_few_at_a_time(tmp_path):
    store = Store(tmp_path / "s.db")
    store.append((record(f"{n}", value=b"x" * 100_000), 1, 0, "") for n in range(100))
    rows = store.read(1, 0, 1_000, 1_000_000)
    assert 9 <= len(rows) <= 11
    assert len(store.read(1, 0, 1_000, 1)) == 1
    store.close()


def test_a_row_whose_bytes_do_not_fit_is_set_aside_and_the_others_go_on(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", "b", "c", asked=True)
    store = Store(tmp_path / "spool-1.db")
    store._db.execute("UPDATE records SET body = x'00' WHERE seq = (SELECT min(seq) + 1 FROM records)")
    store.close()
    kafka.sent.clear()
    kafka.waiting.clear()
    with spooling(tmp_path, kafka) as spool:
        sent(kafka, "a", "c")
        kafka.confirm()
        eventually(lambda: not spool.lines())
        assert spool.refused == 1
        assert spool.pending(spool.mark()) == 0


def test_a_topic_that_cannot_be_read_does_not_hold_up_another(tmp_path, kafka):
    import sqlite3

    with spooling(tmp_path, kafka) as spool:
        inner = spool._forwarder._store.read

        def read(number, *rest):
            if number == 1:
                raise sqlite3.DatabaseError("database disk image is malformed")
            return inner(number, *rest)

        spool._forwarder._store.read = read
        keep(spool, "a", asked=True)
        keep(spool, "b", asked=True, topic="u")
        sent(kafka, "b")
        spool._forwarder._store.read = inner
        sent(kafka, "b", "a")


def test_a_person_who_discards_what_was_refused_is_noticed(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", "b", asked=True)
        eventually(lambda: len(kafka.waiting) == 2)
        for _ in range(2):
            kafka.report(RecordTooLarge("no"))
        eventually(lambda: not spool.lines())
        other = Store(Path(spool.path))
        seq = next(row.seq for row in other.rows())
        with other.transaction():
            other.strike([(seq, seq)])
        other.close()
        eventually(lambda: spool.refused == 1)
        assert spool.held_bytes() > 0


def test_what_would_be_written_to_a_log_that_somebody_deleted_is_not_kept(tmp_path, kafka):
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a")
        next(tmp_path.glob("*-wal")).unlink()
        late = keep(spool, "b")
        assert isinstance(late.keeping.error, SpoolFailed)
        assert "is gone; restart the gateway" in str(late.keeping.error)
