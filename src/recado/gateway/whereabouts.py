"""Where a message is that may still lie on this machine's disk: asked of Kafka, and of the spool."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from recado.errors import KafkaUnreachable, SpoolFailed, UnknownTopic
from recado.gateway.spool.folder import Folder
from recado.gateway.spool.inventory import find
from recado.gateway.spool.row import REFUSED
from recado.tracking.where import Whereabouts

__all__ = ["certain"]


def certain(ask: Callable[[], Whereabouts], folder: Folder, topic: str, id_: str) -> Whereabouts:
    """What Kafka tells, or the spool of what Kafka does not know, or does not tell. Raises RecadoError.

    A record is written in its new place before it leaves the old one, but both are not looked at in one moment: what
    nobody knows has perhaps moved meanwhile, so Kafka is asked a second time.
    """
    try:
        found = ask()
    except (KafkaUnreachable, UnknownTopic):
        if (spooled := _spooled(folder, topic, id_)) is None:
            raise
        return spooled
    if found.state not in ("unknown", "expired"):
        return found
    return _spooled(folder, topic, id_) or _spooled(folder, topic, found.id) or ask()


def _spooled(folder: Folder, topic: str, id_: str) -> Whereabouts | None:
    """What lies on this machine's disk, or None; of two with this id (after a kill) the one that waits."""
    try:
        rows = [found.row for found in find(folder, id_) if found.row.record.topic == topic]
    except SpoolFailed:
        return None
    if not rows:
        return None
    accepted = Whereabouts(id=id_, topic=topic, state="accepted")
    refused = rows[0].reason if all(row.state == REFUSED for row in rows) else None
    return msgspec.structs.replace(accepted, refused=refused)
