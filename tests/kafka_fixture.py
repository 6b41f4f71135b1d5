"""Start a real Kafka for tests: on free ports, in a folder of its own, ended with the test run however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from recado.embedded import EmbeddedKafka, Security

#: A broker under test holds nothing that outlives the test, so a slow clean stop is cut short.
STOP_TIMEOUT_S = 10.0


def kafka_version() -> str:
    """The Kafka version under test: ``RECADO_KAFKA_VERSION``, else the current one."""
    return os.environ.get("RECADO_KAFKA_VERSION", "4.3.1")


@contextmanager
def start_kafka(
    folder: Path,
    version: str | None = None,
    *,
    brokers: int = 1,
    host: str = "127.0.0.1",
    security: Security | None = None,
    properties: Mapping[str, str] | None = None,
    java_env: Mapping[str, str] | None = None,
) -> Iterator[EmbeddedKafka]:
    """Run an embedded Kafka with its data under ``folder`` on free ports, and stop it at the end.

    Yields it when it answers; ``.bootstrap_servers`` says where. Its brokers cannot outlive this Python process.
    """
    kafka = EmbeddedKafka(
        folder,
        version=version or kafka_version(),
        brokers=brokers,
        port=0,
        host=host,
        security=security,
        properties=properties,
        java_env=os.environ if java_env is None else java_env,
    )
    kafka.start()
    try:
        yield kafka
    finally:
        kafka.stop(STOP_TIMEOUT_S)
