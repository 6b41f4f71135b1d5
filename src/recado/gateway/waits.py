"""How long a request waits for what, on top of what its sender asked: the same on the event loop and in threads."""

from __future__ import annotations

__all__ = ["FLUSH_LOOK_S", "KEEP_S", "LEAVING_LOOKS", "LEAVING_S", "OVERDUE_S"]

#: Longest wait for the disk, in seconds, on top of the wait for Kafka: an answer comes within wait + 1 s.
KEEP_S = 0.8

#: The last records of an outage leave within milliseconds: requests wait so often, so long (s), before they queue, too.
LEAVING_LOOKS = 20
LEAVING_S = 0.005

#: While requests wait and none was confirmed for so long, somebody looks whether Kafka still answers, in seconds.
OVERDUE_S = 0.5

#: Rest between two looks while flushing, in seconds.
FLUSH_LOOK_S = 0.005
