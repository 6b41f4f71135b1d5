"""Senders on a real Kafka: a closed one leaves no thread, connection or file behind."""

from __future__ import annotations

import os

from recado import Sender
from recado.settings import Settings
from tests.programs import eventually


def held() -> tuple[int, int]:
    """Descriptors and threads of this process, librdkafka's too."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def test_closed_senders_leave_nothing_behind(kafka, topic, tmp_path):
    name = topic(3)
    settings = Settings(bootstrap_servers=kafka.bootstrap_servers, data_dir=tmp_path, wait_s=30.0)

    def use() -> None:
        with Sender(settings) as sender:
            assert sender.send(name, "x").status == "delivered"
            assert sender.send(name, "x", id=os.urandom(8).hex()).status == "delivered"
            assert sender.send(name, "x", respond_async=True).status == "accepted"

    files, threads = held()
    for _ in range(5):
        use()

    def is_let_go() -> bool:
        now = held()
        return now[0] <= files + 3 and now[1] <= threads + 3  # one Sender alone would hold more

    eventually(is_let_go, why=lambda: f"{held()}, before {(files, threads)}")
