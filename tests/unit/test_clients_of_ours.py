"""Clients that recado makes for itself work with whatever a user says of a worker's membership."""

from __future__ import annotations

import pytest

from recado.kafka.clients import ClusterClients
from recado.kafka.config import FRAMING_BYTES, patient_config, producer_config, transactional_config
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


@pytest.mark.parametrize("config", [patient_config, lambda settings: transactional_config(settings, "id")])
def test_a_producer_of_copies_refuses_none_that_a_topic_takes_unless_the_user_says_so(config):
    small = Settings(bootstrap_servers="127.0.0.1:1", max_record_bytes=1000)
    assert config(small)["message.max.bytes"] >= 100_000_000
    assert config(small)["batch.size"] <= 1000 + FRAMING_BYTES, "a topic for small records takes no large batches"
    set_by_user = Settings(bootstrap_servers="127.0.0.1:1", kafka_producer={"message.max.bytes": "2000"})
    assert config(set_by_user)["message.max.bytes"] == "2000"
    assert producer_config(small)["message.max.bytes"] == 1000 + FRAMING_BYTES
