"""Kafka → handler: reads as a member of a group, runs handlers side by side, commits the lowest not-done offset.

Law: the loop's thread never runs users' code and users' threads never touch the consumer. An offset moves only
after its record is done. Nothing here imports ``confluent_kafka``, Flask or the gateway.
"""

from __future__ import annotations

from recado.worker.worker import Worker

__all__ = ["Worker"]
