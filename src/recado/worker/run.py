"""A run: records that one thread (or task) handles one after the other."""

from __future__ import annotations

from collections.abc import MutableMapping

from recado.kafka.abstract import Message
from recado.worker.epoch import Epoch

__all__ = ["Run"]


class Run:
    """Some records of one lane, in order, and how far they are.

    The thread that handles it writes ``at`` before each record, so everything before ``at`` is done; the loop reads
    ``at`` at any time and remembers in ``settled`` up to where it has counted. No lock, no object per record.
    """

    __slots__ = (
        "at",
        "attempt",
        "epoch",
        "error",
        "following",
        "following_epoch",
        "halt",
        "handled",
        "key",
        "lane",
        "messages",
        "seen",
        "settled",
        "spent_s",
    )

    def __init__(
        self,
        epoch: Epoch,
        messages: list[Message],
        lane: MutableMapping[bytes | None, Run] | None = None,
        key: bytes | None = None,
    ) -> None:
        self.epoch = epoch
        self.messages = messages
        #: The partition's lanes and this run's name among them; None where nothing orders its records.
        self.lane = lane
        self.key = key
        self.at = 0
        self.settled = 0
        #: Which attempt the record at ``at`` is on; its followers start with 1.
        self.attempt = 1
        #: Why the record at ``at`` failed; set by the handling thread when it gives the run back.
        self.error: BaseException | None = None
        #: Asks the handling thread to stop before its next record.
        self.halt = False
        #: How long its thread was at it last, and how many records it handled then.
        self.spent_s = 0.0
        self.handled = 0
        #: The loop's note that it saw this run executing before.
        self.seen = False
        #: What came for this lane meanwhile, and the stay it belongs to; guarded by the lanes' lock.
        self.following: list[Message] = []
        self.following_epoch = epoch
