"""Clients that recado makes for itself work with whatever a user says of a worker's membership."""

from __future__ import annotations

import pytest

from recado.kafka.clients import ClusterClients
from recado.kafka.reader import KafkaReader
from recado.settings import Settings

MEMBERSHIPS = [
    {},
    {"group.protocol": "consumer", "group.remote.assignor": "uniform"},
    {"group.protocol": "consumer", "group.instance.id": "worker-1"},
    {"group.instance.id": "worker-1", "session.timeout.ms": "30000"},
]


@pytest.mark.parametrize("membership", MEMBERSHIPS)
def test_the_delay_line_and_the_reader_of_retry_topics_can_be_made(membership):
    settings = Settings(bootstrap_servers="127.0.0.1:1", kafka_consumer=membership)
    ClusterClients(settings).consumer("recado.delay").close()
    KafkaReader(settings, "group").close()
