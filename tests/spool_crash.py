"""A process that uses a spool and kills itself at a named point: ``python spool_crash.py FOLDER POINT TIMES``.

Kafka is the file ``kafka`` in the folder, an id a line; what was answered 202 stands in ``answered``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recado.gateway.spool.folder import Folder
from recado.gateway.spool.spool import Spool
from recado.gateway.spool.store import Store
from recado.gateway.spool.writer import Writer
from recado.kafka.delivery import Delivery
from recado.record import Outgoing

#: Point → (where, what to wrap, whether it dies before or after that).
POINTS: dict[str, tuple[Any, str, str]] = {
    "before the commit": (Store, "_check_there", "before"),
    "after the commit": (Spool, "on_kept", "before"),
    "before the answer": (Spool, "on_kept", "after"),
    "before the report": (Spool, "on_delivered", "before"),
    "before the strike-out": (Writer, "strike", "before"),
    "strike-out asked for": (Writer, "strike", "after"),
    "after the strike-out": (Spool, "on_struck", "before"),
    "copying": (Store, "add", "after"),
    "copied": (Path, "unlink", "before"),
    "setting aside": (os, "link", "after"),
}


def die_at(point: str, times: int) -> None:
    owner, name, when = POINTS[point]
    inner = getattr(owner, name)
    left = [times]

    def wrapped(*arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if not left[0] and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        given = inner(*arguments, **more)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return given

    setattr(owner, name, wrapped)


def appender(path: Path) -> Callable[[str], None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda id_: (os.write(descriptor, f"{id_}\n".encode()), None)[1]


class FileKafka:
    def __init__(self, path: Path) -> None:
        self.append = appender(path)

    def send(self, delivery: Delivery) -> None:
        threading.Thread(target=self._report, args=(delivery,)).start()

    def _report(self, delivery: Delivery) -> None:
        for index, record in enumerate(delivery.records):
            self.append(record.id)
            delivery.settle(index, (0, index, 1))

    def close(self, timeout_s: float) -> int:
        return 0


def main(home: Path, point: str, times: int) -> None:
    if point:
        die_at(point, times)
    owned = Folder(home / "spool").take()
    answered = appender(home / "answered")
    spool = Spool(owned.store, max_bytes=1 << 30, producer=lambda: FileKafka(home / "kafka"))  # type: ignore[arg-type]
    for number in range(30 if point else 0):
        ids = [f"{os.getpid()}-{number}-{n}" for n in range(3)]
        ended = threading.Event()
        delivery = Delivery([Outgoing("t", b"x" * 50, id_) for id_ in ids], spool.completed)
        keeping = spool.keep(delivery, range(3), under_way=False, asked=True, on_end=ended.set)
        ended.wait(10)
        if keeping.is_kept:
            for id_ in ids:
                answered(id_)
    deadline = threading.Event()
    for _ in range(1000):
        if not spool.lines():
            break
        deadline.wait(0.01)
    spool.close(5)
    owned.release()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
