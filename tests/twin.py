"""Runs a worker on the in-memory twin in a thread, and waits for what a test is about."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from recado import Worker
from recado.kafka.memory import MemoryKafka
from recado.kafka.memory_group import MemoryConsumer
from recado.record import TopicPartition
from recado.settings import Settings
from tests.programs import eventually

GROUP = "group"

#: Any free health port; little time to drain, so that a test that hangs fails soon.
SETTINGS = Settings(topic="orders", group=GROUP, worker_port=0, drain_s=5.0, log_level="error")


class Member:
    """A worker that runs in a thread of this process."""

    def __init__(self, worker: Worker, kafka: MemoryKafka, settings: Settings) -> None:
        self.worker = worker
        self.consumer: MemoryConsumer | None = None
        self.exit_code = 0
        self._kafka = kafka
        self._settings = settings
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run(
                settings=self._settings,
                consumer=self._connect,
                outlet=lambda settings: self._kafka.outlet(),
                coordinator=lambda settings, group: self._kafka.coordinator(group),
                reader=lambda settings, group: self._kafka.reader(),
            )
        except SystemExit as ended:
            self.exit_code = int(ended.code or 0)

    def _connect(self, settings: Settings, group: str) -> MemoryConsumer:
        self.consumer = self._kafka.consumer(group)
        return self.consumer

    def join(self, within_s: float = 20.0) -> int:
        self._thread.join(within_s)
        assert not self._thread.is_alive(), "the worker did not end"
        return self.exit_code

    def end(self) -> int:
        self.worker.stop()
        return self.join()


@contextmanager
def member(worker: Worker, kafka: MemoryKafka, settings: Settings = SETTINGS) -> Iterator[Member]:
    running = Member(worker, kafka, settings)
    try:
        yield running
    finally:
        worker.stop()
        worker.stop()
        running.join()


def committed(kafka: MemoryKafka, topic: str = "orders", partition: int = 0) -> int | None:
    found = kafka.committed(GROUP).get(TopicPartition(topic, partition))
    return None if found is None else found.offset


def wait_committed(kafka: MemoryKafka, offset: int, topic: str = "orders", partition: int = 0) -> None:
    eventually(
        lambda: committed(kafka, topic, partition) == offset,
        within_s=15,
        why=f"committed {committed(kafka, topic, partition)} instead of {offset}",
    )
