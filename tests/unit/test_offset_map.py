"""The offset map: whatever is written down comes back, what does not fit is left out, and nonsense is ignored."""

from __future__ import annotations

import base64
import random

from hypothesis import given
from hypothesis import strategies as st

from recado.kafka.abstract import Committed
from recado.kafka.memory import MemoryMessage
from recado.outcomes.offset_map import MAP_CHARS, decode, encode
from recado.outcomes.offsets import OffsetTracker
from recado.outcomes.resume import take_in, tracker_of
from recado.record import Outgoing


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    base = draw(st.integers(0, 2**62))
    at, found = base, []
    lengths = st.one_of(st.integers(1, 3), st.integers(1, 100_000))
    for gap, length in draw(st.lists(st.tuples(lengths, lengths), max_size=200)):
        found.append((at + gap, at + gap + length - 1))
        at += gap + length
    return base, found


@given(ranges(), st.integers(-1, 2**31 - 1))
def test_what_is_written_down_comes_back(given_ranges, leader_epoch):
    base, found = given_ranges
    text, count = encode(base, found, leader_epoch)
    assert len(text) <= MAP_CHARS
    read = decode(base, text)
    if not count:
        assert read is None
        return
    assert (read.ranges, read.leader_epoch) == (found[:count], leader_epoch)


@given(ranges(), st.integers(60, 400))
def test_what_does_not_fit_is_left_out_from_the_top(given_ranges, limit):
    base, found = given_ranges
    text, count = encode(base, found, 5, limit=limit)
    assert len(text) <= limit
    assert (decode(base, text).ranges if count else []) == found[:count]


def test_ten_thousand_done_beyond_64_that_are_not_fit_many_times():
    held = set(range(0, 6400, 100))
    done = [(offset, offset + 98) for offset in range(1, 6400, 100)] + [(6401, 10_064)]
    text, count = encode(0, done, 0)
    assert count == len(done)
    assert len(text) < MAP_CHARS / 8
    assert not [offset for offset in held if offset in decode(0, text)]


def test_every_second_one_of_twenty_thousand_fits():
    done = [(offset, offset) for offset in range(1, 20_000, 2)]
    assert encode(0, done, 0).ranges == len(done)


def test_chance_over_ten_thousand_fits():
    chance = random.Random(7)
    done = [offset for offset in range(1, 10_000) if chance.random() < 0.5]
    tracker = OffsetTracker()
    tracker.deliver(list(range(10_000)))
    tracker.done(done)
    text = tracker.map_text(0)
    assert tracker.left_out == 0
    read = decode(0, text)
    assert [offset for offset in range(10_000) if offset in read] == done


@given(st.text(max_size=40))
def test_metadata_of_others_is_no_map(text):
    assert decode(0, text) is None


@given(st.binary(max_size=60), st.sampled_from("rRbBxX"), st.integers(-5, 5))
def test_a_damaged_map_never_raises(payload, kind, epoch):
    text = f"map={epoch},{kind},{base64.b64encode(payload, altchars=b'-_').decode()}"
    read = decode(7, text)
    assert read is None or all(first <= last for first, last in read.ranges)


@given(ranges(), st.data())
def test_a_map_that_was_cut_off_or_mixed_up_never_raises(given_ranges, data):
    base, found = given_ranges
    text, _ = encode(base, found, 1)
    if text:
        at = data.draw(st.integers(0, len(text) - 1))
        decode(base, text[:at])
        decode(base, text[:at] + data.draw(st.characters()) + text[at + 1 :])


def messages(*offsets: int, epoch: int = 3) -> list[MemoryMessage]:
    return [MemoryMessage(Outgoing("orders", b"", "id"), 0, offset, 1, epoch) for offset in offsets]


def interrupted(tracker: OffsetTracker) -> OffsetTracker:
    """What another member knows that goes on from here."""
    position = tracker.position()
    return tracker_of(Committed(position, tracker.map_text(position)))


def handed_out(tracker: OffsetTracker, *offsets: int, epoch: int = 3) -> list[int]:
    return [message.offset() for message in take_in(tracker, messages(*offsets, epoch=epoch))]


def test_the_next_owner_is_given_only_what_is_not_done():
    first = OffsetTracker()
    take_in(first, messages(*range(10, 20)))
    first.done([10, 12, 13, 19])
    second = interrupted(first)
    assert handed_out(second, *range(11, 22)) == [11, 14, 15, 16, 17, 18, 20, 21]
    assert second.position() == 11
    second.done([11, 14, 15, 16, 17, 18])
    assert second.position() == 20


def test_a_map_that_was_read_is_told_on_until_its_records_have_come():
    first = OffsetTracker()
    take_in(first, messages(*range(10)))
    first.done([3, 7, 8])
    second = interrupted(first)
    assert handed_out(second, 0, 1, 2, 3, 4) == [0, 1, 2, 4]
    second.done([0])
    third = interrupted(second)
    assert handed_out(third, *range(1, 10)) == [1, 2, 4, 5, 6, 9]


def test_a_record_that_was_written_after_the_log_was_cut_is_not_the_one_that_was_done():
    first = OffsetTracker()
    take_in(first, messages(0, 1, 2, 3, epoch=3))
    first.done([1, 3])
    second = interrupted(first)
    assert handed_out(second, 0, 1, epoch=3) == [0]
    assert handed_out(second, 2, 3, 4, epoch=4) == [2, 3, 4]


def test_a_stay_that_ends_before_it_comes_to_what_was_done_ahead_does_not_make_it_void():
    for early, late in ((3, 5), (-1, -1)):
        first = OffsetTracker()
        take_in(first, [*messages(0, 1, epoch=early), *messages(2, 3, epoch=late)])
        first.done([2, 3])
        second = interrupted(first)
        assert handed_out(second, 0, epoch=3) == [0]
        third = interrupted(second)
        assert handed_out(third, 0, 1, epoch=3) == [0, 1]
        assert handed_out(third, 2, 3, 4, epoch=5) == [4]


def test_a_log_that_was_cut_below_what_was_done_is_noticed_at_the_first_new_record():
    first = OffsetTracker()
    take_in(first, messages(0, 1, 2, 3, epoch=3))
    first.done([3])
    second = interrupted(first)
    assert handed_out(second, 0, 1, epoch=4) == [0, 1], "1 was not done, but what follows it is not what stood there"
    assert handed_out(interrupted(second), 0, 1, 2, 3, epoch=4) == [0, 1, 2, 3]


def test_gaps_between_done_records_count_as_done():
    first = OffsetTracker()
    take_in(first, messages(0, 5, 9))
    first.done([5, 9])
    assert first.done_ahead() == [(5, 9)]
    assert handed_out(interrupted(first), 0, 5, 9, 10) == [0, 10]


def test_without_a_leader_epoch_the_map_holds_all_the_same():
    first = OffsetTracker()
    take_in(first, messages(0, 1, epoch=-1))
    first.done([1])
    assert handed_out(interrupted(first), 0, 1, epoch=-1) == [0]


@given(st.data())
def test_over_any_number_of_interruptions_each_record_is_handed_out_until_it_is_done(data):
    total, done, tracker, following = 60, set[int](), OffsetTracker(), 0
    open_: set[int] = set()
    for _ in range(data.draw(st.integers(1, 30))):
        step = data.draw(st.sampled_from(["read", "read", "done", "done", "interrupt"]))
        if step == "read" and following < total:
            count = data.draw(st.integers(1, 15))
            found = handed_out(tracker, *range(following, min(total, following + count)))
            assert not done & set(found)
            open_ |= set(found)
            following = min(total, following + count)
        elif step == "done" and open_:
            some = data.draw(st.lists(st.sampled_from(sorted(open_)), unique=True, min_size=1))
            tracker.done(some)
            done |= set(some)
            open_ -= set(some)
        elif step == "interrupt" and tracker.position() is not None:
            following = tracker.position()
            assert set(range(following)) <= done
            tracker, open_ = interrupted(tracker), set()
    assert set(range(tracker.position() or 0)) <= done
