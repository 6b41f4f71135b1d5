"""A durable HTTP front door for Kafka, and a Python worker that never loses a message."""

from __future__ import annotations

from recado.gateway.api import blueprint, create_app
from recado.record import Record

__all__ = ["Record", "blueprint", "create_app"]
