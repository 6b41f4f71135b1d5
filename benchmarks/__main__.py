"""`make bench`: starts a Kafka of its own, measures gateway and worker in turns with others, prints a table."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from pathlib import Path

from benchmarks import delay, gateway, worker
from recado.embedded import EmbeddedKafka
from recado.kafka.admin import Admin
from recado.settings import Settings


def main(other_python: str, what: str = "all") -> None:
    """Measure ``gateway``, ``worker``, ``delay`` or ``all``; ``other_python`` has gunicorn, Flask and Quix Streams."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka(Path(folder), java_env=os.environ, port=0, host="127.0.0.1") as kafka,
    ):
        lines = []
        if what in ("all", "gateway"):
            topic = f"bench-{uuid.uuid4().hex[:8]}"
            Admin(Settings(bootstrap_servers=kafka.bootstrap_servers)).create_topic(topic, partitions=3)
            lines += gateway.run(kafka.bootstrap_servers, topic, other_python)
        if what in ("all", "worker"):
            lines += worker.run(kafka.bootstrap_servers, str(Path(other_python).absolute()))
        if what in ("all", "delay"):
            lines += delay.run(kafka.bootstrap_servers)
    print()
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
