"""A run: records that one thread (or task) handles one after the other."""

from __future__ import annotations

from recado.kafka.abstract import Message
from recado.outcomes.history import Failure
from recado.worker.partition.epoch import Epoch

__all__ = ["Run"]


class Run:
    """Some records of one partition, in order, and how far they are.

    The thread that handles it writes ``at`` before each record, so everything before ``at`` is done; the loop reads
    ``at`` at any time and remembers in ``settled`` up to where it has counted. No lock, no object per record.
    """

    __slots__ = (
        "at",
        "attempt",
        "epoch",
        "error",
        "failures",
        "following",
        "halt",
        "handled",
        "in_offset_order",
        "keys",
        "left",
        "messages",
        "seen",
        "settled",
        "spent_s",
    )

    def __init__(
        self, epoch: Epoch, messages: list[Message], keys: list[bytes | None], *, in_offset_order: bool = False
    ) -> None:
        self.epoch = epoch
        self.messages = messages
        #: The keys that are handled nowhere else until this run ends.
        self.keys = keys
        self.at = 0
        self.settled = 0
        #: Which attempt the record at ``at`` is on; its followers start with 1.
        self.attempt = 1
        #: Why the record at ``at`` failed; set by the handling thread when it gives the run back.
        self.error: BaseException | None = None
        #: Its failed attempts here, oldest first (the loop's, which has no hand in it while a thread has the run).
        self.failures: list[Failure] = []
        #: Whether the records are all that was delivered from the first to the last: they can be settled in one go.
        self.in_offset_order = in_offset_order
        #: Asks the handling thread to stop before its next record.
        self.halt = False
        #: Its thread is through with it; guarded by the lanes' lock.
        self.left = False
        #: How long its thread was at it last, and how many records it handled then.
        self.spent_s = 0.0
        self.handled = 0
        #: The loop's note that it saw this run executing before.
        self.seen = False
        #: What came for its keys meanwhile, by the stay it belongs to, in order; guarded by the lanes' lock.
        self.following: list[tuple[Epoch, list[Message]]] = []

    def follow(self, epoch: Epoch, messages: list[Message]) -> None:
        """Let records wait for the end of this run; those of a stay that ended are void."""
        if self.following and self.following[-1][0] is epoch:
            self.following[-1][1].extend(messages)
        else:
            self.following = [stay for stay in self.following if not stay[0].closed]
            self.following.append((epoch, list(messages)))

    def unfollowed(self) -> list[tuple[Epoch, list[Message]]]:
        """Let go what waits for its end."""
        following, self.following = self.following, []
        return following
