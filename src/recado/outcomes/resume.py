"""Going on where an earlier stay ended: what it had done already is not handed out again."""

from __future__ import annotations

import structlog

from recado.kafka.abstract import Committed, Message
from recado.outcomes.offset_map import decode
from recado.outcomes.offsets import OffsetTracker

__all__ = ["take_in", "tracker_of"]

log = structlog.get_logger(__name__)


def tracker_of(committed: Committed | None) -> OffsetTracker:
    """A tracker for a stay that begins at what the group has committed (None: nothing, or nothing that holds)."""
    return OffsetTracker(decode(committed.offset, committed.metadata) if committed is not None else None)


def take_in(tracker: OffsetTracker, messages: list[Message]) -> list[Message]:
    """Note that these records of one partition were delivered; return those that are still to do."""
    before, offsets = tracker.before, [message.offset() for message in messages]
    tracker.deliver(offsets)
    if before is None or before.leader_epoch >= 0:
        # Never lower than what an earlier stay has seen, nor told where that one could not: whoever comes next would
        # take what it has done for records of a later leader.
        tracker.leader_epoch = max(tracker.leader_epoch, _epoch(messages[-1]))
    if before is None or offsets[0] > before.top:
        return messages
    rest: list[Message] = []
    done: list[int] = []
    for at, message in enumerate(messages):
        if message.offset() > before.top:
            rest += messages[at:]
            break
        if _epoch(message) > before.leader_epoch >= 0:
            tracker.forget_before()
            log.warning(
                "the log was cut: nothing beyond the committed offset counts as done",
                topic=message.topic(),
                partition=message.partition(),
                offset=message.offset(),
                leader_epoch=_epoch(message),
                was=before.leader_epoch,
            )
            rest += messages[at:]
            break
        if message.offset() in before:
            done.append(message.offset())
        else:
            rest.append(message)
    if done:
        tracker.done(done)
    return rest


def _epoch(message: Message) -> int:
    """The leader epoch under which a record was written; -1 where the broker does not tell."""
    epoch = message.leader_epoch()
    return -1 if epoch is None else epoch
