"""The offset tracker against a model that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recado.outcomes.offsets import OffsetTracker


def test_nothing_is_known_at_first():
    assert OffsetTracker().position() is None


def test_position_is_the_lowest_not_done_never_the_highest_seen():
    tracker = OffsetTracker()
    tracker.deliver([10, 11, 12])
    tracker.done([12])
    assert tracker.position() == 10
    tracker.done([10])
    assert tracker.position() == 11
    tracker.done([11])
    assert tracker.position() == 13


def test_gaps_are_no_reason_to_wait():
    tracker = OffsetTracker()
    tracker.deliver([0, 5, 9])
    tracker.done([0])
    assert tracker.position() == 5
    tracker.done([5, 9])
    assert tracker.position() == 10


def test_the_end_counts_only_when_all_that_was_delivered_is_done():
    tracker = OffsetTracker()
    tracker.deliver([3])
    tracker.reached_end(8)
    assert tracker.position() == 3
    tracker.done([3])
    assert tracker.position() == 8


def test_an_empty_partition_is_at_its_end():
    tracker = OffsetTracker()
    tracker.reached_end(4)
    assert tracker.position() == 4


def test_passing_over_happens_only_at_the_position():
    tracker = OffsetTracker()
    tracker.deliver([3, 5, 6, 9])
    assert not tracker.pass_over(5, 6, 2)
    assert not tracker.pass_over(3, 9, 3)
    assert tracker.pass_over(3, 5, 2)
    assert tracker.position() == 6
    tracker.done([9])
    assert not tracker.pass_over(6, 6, 1)
    tracker.done([6])
    assert tracker.position() == 10


def test_done_ahead_tells_what_a_map_would_remember():
    tracker = OffsetTracker()
    tracker.deliver([0, 1, 2, 3])
    tracker.done([3, 1])
    assert tracker.done_ahead() == [(1, 1), (3, 3)]
    assert (tracker.pending, tracker.span) == (2, 4)


class Model:
    """Everything in plain sets, looked through each time."""

    def __init__(self) -> None:
        self.delivered: set[int] = set()
        self.done: set[int] = set()
        self.end = -1

    def position(self) -> int | None:
        left = self.delivered - self.done
        if left:
            return min(left)
        if not self.delivered and self.end < 0:
            return None
        return max([offset + 1 for offset in self.delivered] + [self.end])


@given(st.data())
def test_tracker_agrees_with_the_model(data: st.DataObject):
    tracker, model, following = OffsetTracker(), Model(), data.draw(st.integers(0, 5))
    before = -1
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(st.sampled_from(["deliver", "done", "pass", "end"]))
        left = sorted(model.delivered - model.done)
        if step == "deliver":
            gaps = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
            offsets = []
            for gap in gaps:
                offsets.append(following + gap)
                following += gap + 1
            tracker.deliver(offsets)
            model.delivered.update(offsets)
        elif step == "done" and left:
            offsets = data.draw(st.lists(st.sampled_from(left), unique=True, min_size=1))
            tracker.done(offsets)
            model.done.update(offsets)
        elif step == "pass":
            first = data.draw(st.integers(0, max(0, len(model.delivered) - 1)))
            run = sorted(model.delivered)[first : first + data.draw(st.integers(1, 8))]
            if run and not model.done & set(run) and tracker.pass_over(run[0], run[-1], len(run)):
                model.done.update(run)
        elif step == "end":
            following += data.draw(st.integers(0, 3))
            tracker.reached_end(following)
            model.end = following
        position = tracker.position()
        assert position == model.position()
        assert (position if position is not None else -1) >= before, "the position went back"
        before = position if position is not None else before
        assert tracker.pending == len(model.delivered - model.done)
        ahead = {o for first, last in tracker.done_ahead() for o in range(first, last + 1)} & model.delivered
        assert ahead == {o for o in model.done if position is not None and o >= position}
