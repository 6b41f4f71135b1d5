"""Lanes by themselves: any interleaving of offers, ends, splits and retries keeps each key's order."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from recado.kafka.abstract import Message
from recado.kafka.memory import MemoryMessage
from recado.record import Outgoing, TopicPartition
from recado.worker.handling.gather import Gathering
from recado.worker.handling.lanes import Lanes
from recado.worker.handling.run import Run
from recado.worker.partition.epoch import Epoch

WHERE = TopicPartition("orders", 0)


def message(offset: int, key: bytes | None) -> MemoryMessage:
    return MemoryMessage(Outgoing("orders", b"", id="", key=key), 0, offset)


STEPS = ["offer", "take", "take", "handle", "handle", "turn", "split", "fail", "retry"]


class Stage:
    """Plays the threads, one step at a time, and checks what they may see."""

    def __init__(self, order: str, concurrency: int) -> None:
        self.ready: list[Run] = []
        self.executing: list[Run] = []
        self.waiting: list[Run] = []
        self.handled: list[int] = []
        self.order = order
        self.concurrency = concurrency
        self.last: dict[object, int] = defaultdict(lambda: -1)
        self.lanes = Lanes(order=order, concurrency=concurrency, start=self.ready.append)

    def lane_of(self, found: MemoryMessage) -> object:
        return WHERE if self.order == "partition" else found.key() if self.order == "key" else None

    def take(self) -> None:
        if self.ready and len(self.executing) < self.concurrency:
            run = self.ready.pop(0)
            self.executing.append(run)
            self.check_overlap()

    def check_overlap(self) -> None:
        busy = [self.lane_of(run.messages[run.at]) for run in self.executing if run.at < len(run.messages)]
        held = [lane for lane in busy if lane is not None]
        assert len(held) == len(set(held)), "a key is handled twice at once"

    def handle_one(self, run: Run) -> None:
        found = run.messages[run.at]
        lane = self.lane_of(found)
        if lane is not None:
            assert self.last[lane] < found.offset(), "a key went back"
            self.last[lane] = found.offset()
        self.handled.append(found.offset())
        run.at += 1
        run.settled = run.at
        run.attempt = 1
        if run.at == len(run.messages):
            self.executing.remove(run)
            self.lanes.finish(run)
        elif run.halt:
            self.turn(run)
        else:
            self.check_overlap()

    def turn(self, run: Run) -> None:
        self.executing.remove(run)
        self.lanes.turn(run)

    def split(self, run: Run) -> None:
        run.halt = True
        self.lanes.split(run)

    def fail(self, run: Run) -> None:
        self.executing.remove(run)
        run.halt = False
        run.attempt += 1
        self.lanes.set_aside(run)
        self.waiting.append(run)

    def retry(self) -> None:
        if self.waiting:
            self.ready.append(self.waiting.pop(0))


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["key", "partition", "none"]), st.sampled_from([1, 2, 5]))
def test_every_record_is_handled_once_and_no_key_overlaps_or_goes_back(data, order, concurrency):
    stage, epoch, offset = Stage(order, concurrency), Epoch(WHERE, "g"), 0
    for _ in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(STEPS))
        if step == "offer":
            keys = data.draw(st.lists(st.sampled_from([None, b"", b"a", b"b", b"c"]), min_size=1, max_size=40))
            stage.lanes.offer(epoch, [message(offset + n, key) for n, key in enumerate(keys)])
            offset += len(keys)
        elif step == "take":
            stage.take()
        elif step == "retry":
            stage.retry()
        elif stage.executing:
            run = data.draw(st.sampled_from(stage.executing))
            {"handle": stage.handle_one, "turn": stage.turn, "split": stage.split, "fail": stage.fail}[step](run)
    while stage.ready or stage.executing or stage.waiting:
        stage.retry()
        stage.take()
        for run in list(stage.executing):
            stage.handle_one(run)
    assert sorted(stage.handled) == list(range(offset))


def _all_of(run: Run) -> list[Message]:
    return [*run.messages, *(message for _, messages in run.following for message in messages)]


def test_two_stays_share_a_lane_and_neither_loses_what_waits_in_it():
    stage, epoch = Stage("key", 4), Epoch(WHERE, "g")
    back = Epoch(TopicPartition("retry.g.t", 0), "g", home=WHERE)
    stage.lanes.offer(epoch, [message(0, b"a")])
    stage.take()
    for offset in (1, 3):
        stage.lanes.offer(back, [message(offset, b"a")])
        stage.lanes.offer(epoch, [message(offset + 1, b"a")])
    while stage.executing:
        assert not stage.ready
        stage.handle_one(stage.executing[0])
        if stage.ready:
            stage.take()
    assert stage.handled == [0, 1, 2, 3, 4]


def test_what_a_run_had_queued_again_is_no_longer_its_own():
    stage, epoch = Stage("key", 2), Epoch(WHERE, "g")
    stage.lanes.offer(epoch, [message(offset, b"%d" % offset) for offset in range(16)])
    stage.lanes.offer(epoch, [message(16, b"0"), message(17, b"1")])
    stage.take()
    run = stage.executing[0]
    stage.handle_one(run)
    stage.turn(run)
    assert [found.offset() for found in run.messages] == [0]
    assert run.following == []
    queued = [found.offset() for ready in stage.ready for found in _all_of(ready)]
    assert sorted(queued) == list(range(1, 18))


def test_other_keys_of_its_run_do_not_wait_for_a_record_that_takes_long():
    stage, epoch = Stage("key", 2), Epoch(WHERE, "g")
    keys = [b"slow", b"a", b"b", b"slow", b"c", b"a"]
    stage.lanes.offer(epoch, [message(offset, key) for offset, key in enumerate(keys)])
    stage.lanes.offer(epoch, [message(6, b"slow"), message(7, b"b")])
    stage.take()
    slow = stage.executing[0]
    while len(stage.ready) > 0:  # what is in other runs already
        stage.take()
        stage.handle_one(stage.executing[1])
    stage.split(slow)
    while stage.ready or len(stage.executing) > 1:
        stage.take()
        stage.handle_one(stage.executing[1])
    assert sorted(stage.handled) == [1, 2, 4, 5, 7]
    stage.handle_one(slow)
    while stage.ready or stage.executing:
        stage.take()
        stage.handle_one(stage.executing[0])
    assert stage.handled[5:] == [0, 3, 6]


def test_other_keys_go_on_while_one_waits_even_with_one_thread():
    stage, epoch = Stage("key", 1), Epoch(WHERE, "g")
    stage.lanes.offer(epoch, [message(0, b"bad"), message(1, b"good"), message(2, b"bad"), message(3, b"good")])
    stage.take()
    stage.fail(stage.executing[0])
    while stage.ready or stage.executing:
        stage.take()
        stage.handle_one(stage.executing[0])
    assert stage.handled == [1, 3]
    stage.retry()
    while stage.ready or stage.executing:
        stage.take()
        stage.handle_one(stage.executing[0])
    assert stage.handled == [1, 3, 0, 2]


def test_a_key_that_an_earlier_stay_still_executes_waits():
    stage, old, new = Stage("key", 4), Epoch(WHERE, "g"), Epoch(WHERE, "g")
    stage.lanes.offer(old, [message(0, b"a"), message(1, b"a")])
    stage.take()
    old.closed = old.fenced = True
    stage.lanes.offer(new, [message(0, b"a"), message(1, b"b")])
    assert [run.messages[0].key() for run in stage.ready] == [b"b"], "key a waits for the old stay's handler"
    old_run = stage.executing.pop()
    stage.lanes.finish(old_run)
    assert [run.messages[0].key() for run in stage.ready] == [b"b", b"a"]
    assert stage.ready[1].epoch is new


def test_what_followed_of_an_earlier_stay_is_dropped():
    stage, old = Stage("key", 4), Epoch(WHERE, "g")
    stage.lanes.offer(old, [message(0, b"a")])
    stage.take()
    stage.lanes.offer(old, [message(1, b"a")])
    old.closed = True
    stage.lanes.finish(stage.executing.pop())
    assert stage.ready == []


def gathering(started: list[Run], now: list[float], ordered: bool = True) -> Gathering:
    return Gathering(size=3, wait_s=5, ordered=ordered, start=started.append, clock=lambda: now[0])


def test_a_batch_starts_when_it_is_full_or_its_wait_is_over():
    started: list[Run] = []
    now = [0.0]
    lanes, epoch = gathering(started, now), Epoch(WHERE, "g")
    lanes.offer(epoch, [message(0, None), message(1, None)])
    assert started == []
    assert lanes.start_due(2.0) == 3.0
    lanes.offer(epoch, [message(2, None)])
    assert len(started[0].messages) == 3
    lanes.offer(epoch, [message(3, None)])
    now[0] = 6.0
    lanes.start_due(6.0)
    assert len(started) == 1, "one batch of a partition at a time"
    lanes.finish(started[0])
    assert len(started[1].messages) == 1


def test_a_partition_and_what_comes_back_to_it_have_one_batch_at_a_time_between_them_by_turns():
    started: list[Run] = []
    lanes, epoch = gathering(started, [0.0]), Epoch(WHERE, "g")
    back = Epoch(TopicPartition("retry.g.orders", 0), "g", home=WHERE)
    lanes.offer(epoch, [message(number, b"k") for number in range(6)])
    lanes.offer(back, [message(number, b"k") for number in range(6)])
    for number in range(4):
        assert len(started) == number + 1, "one key may be in both"
        lanes.finish(started[number])
    assert [run.epoch is back for run in started] == [False, True, False, True]


def test_batches_without_order_go_side_by_side():
    started: list[Run] = []
    lanes = gathering(started, [0.0], ordered=False)
    lanes.offer(Epoch(WHERE, "g"), [message(number, None) for number in range(7)])
    assert [len(run.messages) for run in started] == [3, 3]


def test_an_incomplete_batch_starts_when_memory_is_full():
    started: list[Run] = []
    lanes = gathering(started, [0.0])
    lanes.offer(Epoch(WHERE, "g"), [message(0, None)])
    lanes.start_due(0.0, whatever_is_there=True)
    assert len(started) == 1
