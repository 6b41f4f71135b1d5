"""One topic's line against a simple model: a list of rows, each with what became of it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from recado.gateway.spool.line import MARKS, Line, Mark
from recado.gateway.spool.ranges import ranges


class LineMachine(RuleBasedStateMachine):
    """Rows come, are read, sent, confirmed, fail and are struck out, in every order that the spool allows."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line("t", 1, cursor=0)
        #: Row → unsent, under way, sent, settled (done, not struck out yet); struck-out rows are gone.
        self.model: dict[int, str] = {}
        self.last = 0
        self.in_hand: list[int] | None = None
        self.marks: list[tuple[Mark, set[int]]] = []
        self.confirmed: set[int] = set()
        self.failed_once: set[int] = set()
        self.sent_order: list[int] = []

    @rule(count=st.integers(1, 5), under_way=st.booleans())
    def add(self, count: int, under_way: bool) -> None:
        rows = range(self.last + 1, self.last + 1 + count)
        self.line.added(rows, 10.0 * count, 1_000 * rows[0], under_way=under_way)
        self.last = rows[-1]
        self.model |= dict.fromkeys(rows, "under way" if under_way else "unsent")

    @precondition(lambda self: self.in_hand is None)
    @rule(limit=st.integers(1, 4), uncommitted=st.integers(0, 2))
    def read(self, limit: int, uncommitted: int) -> None:
        if not self.line.go_back():
            assert any(state == "sent" for state in self.model.values())
            return
        after = self.line.reading()
        # The disk may hold rows that the line was not told of yet.
        disk = sorted(self.model) + [self.last + 1 + n for n in range(uncommitted)]
        self.in_hand = [row for row in disk if row > after][:limit]

    @precondition(lambda self: self.in_hand is not None)
    @rule()
    def send(self) -> None:
        assert self.in_hand is not None
        sending, up_to = [], self.line.cursor
        for row in self.in_hand:
            if not self.line.may_send(row):
                break
            up_to = row
            if row not in self.line.settled:
                sending.append(row)
        self.line.sent(sending, up_to=up_to)
        for row in sending:
            assert self.model[row] == "unsent"
            assert row not in self.confirmed
            self.model[row] = "sent"
        # Nothing older is left out.
        if sending:
            assert not [
                row for row, state in self.model.items() if state in ("unsent", "under way") and row < sending[-1]
            ]
        self.sent_order += sending
        self.line.has_read()
        self.in_hand = None

    @rule(data=st.data(), fails=st.booleans())
    def report(self, data: st.DataObject, fails: bool) -> None:
        open_ = [row for row, state in self.model.items() if state in ("sent", "under way")]
        if not open_:
            return
        row = data.draw(st.sampled_from(open_))
        if fails:
            self.line.failed(row)
            self.failed_once.add(row)
            self.model[row] = "unsent"
            return
        assert self.line.finished(row) is not None
        self.model[row] = "settled"
        self.confirmed.add(row)

    @rule(data=st.data())
    def report_again(self, data: st.DataObject) -> None:
        if self.confirmed:
            assert self.line.finished(data.draw(st.sampled_from(sorted(self.confirmed)))) is None

    @rule(data=st.data())
    def strike(self, data: st.DataObject) -> None:
        settled = [row for row, state in self.model.items() if state == "settled"]
        if settled:
            row = data.draw(st.sampled_from(settled))
            del self.model[row]
            self.line.struck(row)

    @rule()
    def mark(self) -> None:
        self.marks.append((self.line.mark(), {row for row, state in self.model.items() if state != "settled"}))

    @invariant()
    def counts_are_exact(self) -> None:
        left = [row for row, state in self.model.items() if state != "settled"]
        assert self.line.rows == len(left)
        assert self.line.unsent == sum(state in ("unsent", "under way") for state in self.model.values())
        assert self.line.in_flight == {row for row, state in self.model.items() if state == "sent"}
        assert abs(self.line.size_bytes - 10.0 * len(left)) < 1e-6
        assert self.line.is_over() == (not self.model and not self.line.settled and self.in_hand is None)

    @invariant()
    def marks_are_exact(self) -> None:
        for mark, rows in self.marks:
            assert mark.left == len(rows - self.confirmed)

    @invariant()
    def the_oldest_is_no_younger_than_it_is(self) -> None:
        left = [row for row, state in self.model.items() if state != "settled"]
        oldest = self.line.oldest_ms()
        assert (oldest is None) == (not left)
        if oldest is not None:
            assert oldest <= 1_000 * min(left)
            assert self.line.lowest() <= min(left)

    def teardown(self) -> None:
        """From any state it comes to its end, with every row confirmed."""
        if self.in_hand is not None:
            self.send()
        for _ in range(10_000):
            if not self.line.rows:
                break
            for row in [row for row, state in self.model.items() if state in ("sent", "under way")]:
                assert self.line.finished(row) is not None
                self.model[row] = "settled"
                self.confirmed.add(row)
            self.read(4, 0)
            if self.in_hand is not None:
                self.send()
        assert not self.line.rows
        for row in list(self.model):
            self.line.struck(row)
        assert self.line.is_over()
        assert not self.line.settled
        again = [row for row in self.sent_order if self.sent_order.count(row) > 1]
        assert set(again) <= self.failed_once


TestLine = LineMachine.TestCase
TestLine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_moments_are_remembered_in_a_bounded_way_and_finely_again_later():
    line = Line("t", 1, cursor=0)
    for row in range(1, 5_001):
        line.added(range(row, row + 1), 1.0, 1_000 * row)
        assert len(line._marks) <= MARKS
    assert line.oldest_ms() == 1_000
    for row in range(1, 4_991):
        line.sent([row], up_to=row)
        line.finished(row)
    age_ms = 1_000 * 4_991 - line.oldest_ms()
    assert 0 <= age_ms <= 32_000
    line.oldest_ms()
    for row in range(5_001, 5_011):
        line.added(range(row, row + 1), 1.0, 1_000 * row)
    line.sent(range(4_991, 5_005), up_to=5_004)
    for row in range(4_991, 5_005):
        line.finished(row)
    assert line.oldest_ms() == 5_005_000


def test_ranges_join_neighbours():
    assert ranges([]) == []
    assert ranges([5, 1, 2, 3, 9, 8, 8]) == [(1, 3), (5, 5), (8, 9)]
