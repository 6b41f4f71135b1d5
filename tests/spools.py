"""A spool with a Kafka of which the test decides every report, and files to damage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recado.gateway.spool.folder import Folder
from recado.gateway.spool.keeping import Keeping
from recado.gateway.spool.row import Row
from recado.gateway.spool.spool import Spool
from recado.gateway.spool.store import Store
from recado.kafka.delivery import Delivery, Position
from recado.record import Outgoing
from tests.programs import eventually

#: Nothing here takes longer, on the slowest machine.
DEADLINE_S = 20.0

BIG = 1 << 40


def record(id_: str, topic: str = "t", value: bytes = b"x", **more: Any) -> Outgoing:
    return Outgoing(topic, value, id_, **more)


def there(offset: int) -> Position:
    return (0, offset, 1)


class Scripted:
    """A producer. Records wait in ``waiting`` until the test reports them; ``confirms`` makes it do so by itself."""

    def __init__(self, *, confirms: bool = False) -> None:
        self.confirms = confirms
        self.lock = threading.Lock()
        #: Every record that was ever given to it, and what it has confirmed: the log.
        self.sent: list[Outgoing] = []
        self.log: list[Outgoing] = []
        self.waiting: list[tuple[Delivery, int, Outgoing]] = []
        self.made = 0
        self.before_send: Callable[[], None] = lambda: None

    def send(self, delivery: Delivery) -> None:
        self.before_send()
        with self.lock:
            for index, sent in enumerate(delivery.records):
                self.sent.append(sent)
                self.waiting.append((delivery, index, sent))
        if self.confirms:
            threading.Thread(target=self.confirm).start()

    def report(self, fate: Any, id_: str | None = None) -> None:
        """Report the first record that waits, or that of an id."""
        with self.lock:
            place = next(n for n, (_, _, sent) in enumerate(self.waiting) if id_ in (None, sent.id))
            delivery, index, sent = self.waiting.pop(place)
            if isinstance(fate, tuple):
                self.log.append(sent)
        delivery.settle(index, fate)

    def confirm(self) -> None:
        """Confirm all that waits."""
        with self.lock:
            waiting, self.waiting = self.waiting, []
            self.log += [sent for _, _, sent in waiting]
        for delivery, index, _ in waiting:
            delivery.settle(index, there(len(self.log)))

    def ids(self) -> list[str]:
        return [sent.id for sent in self.sent]

    def make(self) -> Scripted:
        self.made += 1
        return self

    def take_over(self) -> None: ...
    def serve(self) -> None: ...
    def hand_back(self) -> None: ...

    def outstanding(self) -> int:
        return len(self.waiting)

    def close(self, timeout_s: float) -> int:
        return len(self.waiting)


@contextmanager
def spooling(directory: Path, kafka: Scripted, *, max_bytes: int = BIG) -> Iterator[Spool]:
    """A spool that runs, on what its folder holds."""
    owned = Folder(directory).take()
    spool = Spool(owned.store, max_bytes=max_bytes, producer=kafka.make)
    try:
        yield spool
    finally:
        spool.close(0)
        owned.release()


class Kept:
    """A request whose records are written down."""

    def __init__(self, spool: Spool, records: list[Outgoing], **how: Any) -> None:
        self.ended, self.confirmed = threading.Event(), threading.Event()
        self.delivery = how.pop("delivery", None) or Delivery(records, lambda delivery: self.confirmed.set())
        indices = how.pop("indices", range(len(records)))
        how.setdefault("under_way", False)
        self.keeping: Keeping = spool.keep(self.delivery, indices, on_end=self.ended.set, **how)

    def wait(self) -> Kept:
        assert self.ended.wait(DEADLINE_S)
        return self


def keep(spool: Spool, *ids: str, **how: Any) -> Kept:
    topic = how.pop("topic", "t")
    return Kept(spool, [record(id_, topic) for id_ in ids], **how).wait()


def empty(spool: Spool) -> None:
    """Wait until nothing is left of anything, then prove it."""
    eventually(lambda: not spool.lines(), within_s=DEADLINE_S, why=lambda: str(spool.depth()))
    assert spool.depth().rows == spool.depth().size_bytes == 0
    assert spool.held_bytes() < 1e-3
    assert not spool._waiting
    assert not spool._late
    assert not spool._of_number
    eventually(lambda: spool._forwarder._bytes == 0, within_s=DEADLINE_S)


def on_disk(directory: Path) -> list[Row]:
    """What a reader of its own finds in every spool of a folder."""
    found: list[Row] = []
    for path in sorted(directory.glob("spool-*.db")):
        if "." in path.stem:
            continue
        store = Store(path, read_only=True)
        found += [row for row in store.rows() if isinstance(row, Row)]
        store.close()
    return found


def disk_ids(directory: Path) -> list[str]:
    return [row.record.id for row in on_disk(directory)]


def filled(path: Path, ids: list[str], *, value: bytes = b"x" * 300, topic: str = "t") -> None:
    """A spool file with these records, closed in order."""
    store = Store(path)
    store.append((record(id_, topic, value), 1_000, 0, "") for id_ in ids)
    store.close()
