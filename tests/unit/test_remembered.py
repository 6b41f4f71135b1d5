"""The topics that were seen last, written down by several threads."""

from __future__ import annotations

import json
import threading

from structlog.testing import capture_logs

from recado.gateway.remembered import RememberedTopics
from recado.kafka.memory import MemoryKafka


def test_threads_that_ask_for_new_topics_at_once_write_down_all(tmp_path):
    counts = {f"t{number}": 1 for number in range(400)}
    path = tmp_path / "topics.json"
    remembered = RememberedTopics(MemoryKafka(counts).topics(), path)
    together = threading.Barrier(8)

    def ask(first: int) -> None:
        together.wait(20)
        for number in range(first, 400, 8):
            remembered.partitions(f"t{number}")

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    with capture_logs() as logs:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert logs == []
    assert json.loads(path.read_bytes()) == counts
    assert list(tmp_path.iterdir()) == [path]
