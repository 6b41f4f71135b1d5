"""The ledger is pure: each record in one column, and what is not accounted for is named."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recado.kafka.scan import Range
from recado.outcomes.offset_map import DoneMap
from recado.tracking.find import time_of
from recado.tracking.ledger import Entry, balance
from recado.tracking.look import Reached


def entry(kept=(0, 10), committed=None, done=(), retrying=(), dead=(), discarded=(), records=None) -> Entry:
    reached = Reached(committed, DoneMap(list(done), 0) if done else None)
    return balance(
        group="g", topic="t", partition=0, kept=Range(*kept), reached=reached,
        retrying=retrying, dead=dead, discarded=discarded, records=records,
    )  # fmt: skip


def columns(found: Entry) -> tuple[int, ...]:
    return found.accepted, found.done, found.retrying, found.dead, found.discarded, found.not_handled


def test_each_record_stands_in_one_column():
    found = entry(committed=5, done=[(7, 8)], retrying=[1, 7], dead=[2, 1], discarded=[3])
    assert columns(found) == (10, 3, 2, 1, 1, 3)
    assert not found.problems


def test_a_new_group_has_handled_nothing_and_nothing_is_missing():
    assert columns(entry(kept=(4, 10))) == (6, 0, 0, 0, 0, 6)
    assert not entry(kept=(4, 10)).problems


def test_a_copy_of_what_is_not_committed_is_one_record_that_may_be_handled_again():
    found = entry(committed=2, retrying=[3], dead=[4])
    assert columns(found) == (10, 2, 0, 0, 0, 8)
    assert found.again == 2


def test_what_the_partition_no_longer_keeps_still_counts_while_a_copy_waits():
    assert columns(entry(kept=(5, 10), committed=10, retrying=[1], dead=[2])) == (7, 5, 1, 1, 0, 0)


def test_what_was_deleted_before_it_was_handled_is_named():
    [problem] = entry(kept=(5, 10), committed=2, done=[(3, 3)]).problems
    assert (problem.kind, problem.count, problem.offsets) == ("expired", 2, [2, 4])


def test_what_is_committed_and_not_there_is_named():
    [problem] = entry(committed=12).problems
    assert (problem.kind, problem.offsets) == ("beyond the end", [10, 11])
    [problem] = entry(committed=4, done=[(9, 10)]).problems
    assert (problem.kind, problem.offsets) == ("beyond the end", [10])
    [problem] = entry(committed=10, dead=[40]).problems
    assert (problem.kind, problem.offsets) == ("copy of nothing", [40])


def test_gaps_are_no_records_where_the_records_were_read():
    assert columns(entry(committed=8, dead=[2], records=[0, 2, 4, 8])) == (4, 2, 0, 1, 0, 1)


def test_what_compaction_took_still_counts_while_a_copy_waits():
    found = entry(committed=8, retrying=[3], dead=[1], discarded=[5], records=[0, 2, 8])
    assert columns(found) == (6, 2, 1, 1, 1, 1)
    assert not found.problems


@given(st.data())
def test_the_columns_always_add_up(data):
    begin = data.draw(st.integers(0, 20))
    end = data.draw(st.integers(begin, 60))
    offsets = st.sets(st.integers(0, max(0, end - 1)))
    committed = data.draw(st.none() | st.integers(begin, end))
    found = entry(
        (begin, end), committed, (), data.draw(offsets), data.draw(offsets), data.draw(offsets)
    )  # fmt: skip
    accepted, *parts = columns(found)
    assert accepted == sum(parts)


def test_the_time_in_an_id():
    assert time_of("0198c1a4-6b1e-7c3a-9d57-5a0c8f1b2e3d") == 0x0198C1A46B1E
    assert time_of("d2719f4c-2f0e-4e3a-9d57-5a0c8f1b2e3d") is None
    assert time_of("order-4711") is None
