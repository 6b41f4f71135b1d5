"""A real Kafka for every integration test, started at the first one that asks for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import structlog
from confluent_kafka.admin import AdminClient, NewTopic

from recado.embedded import EmbeddedKafka
from tests.kafka_fixture import start_kafka
from tests.mock_kafka import MockKafka, start_mock_kafka

# On a busy machine an example takes as long as it takes; what is slow is for the benchmarks to say.
hypothesis.settings.register_profile("recado", deadline=None)
hypothesis.settings.load_profile("recado")

#: A topic is there in milliseconds; this is for a machine that is very busy.
TOPIC_TIMEOUT_S = 30.0

#: Makes a fresh topic and returns its name: ``topic(partitions=3, **{"cleanup.policy": "compact"})``.
TopicFactory = Callable[..., str]


@pytest.fixture(autouse=True)
def loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no logger keep the settings of one test's ``set_up``: a later test could not capture what it says."""
    configure = structlog.configure
    monkeypatch.setattr(
        structlog, "configure", lambda **settings: configure(**{**settings, "cache_logger_on_first_use": False})
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One broker of the version in ``RECADO_KAFKA_VERSION``, shared by the whole run: leave it running."""
    with start_kafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Three brokers, shared by the whole run; a test that kills or pauses one brings it back."""
    with start_kafka(tmp_path_factory.mktemp("cluster"), brokers=3) as running:
        yield running


@pytest.fixture
def mock_kafka() -> Iterator[MockKafka]:
    """The broker that librdkafka mocks."""
    with start_mock_kafka() as running:
        yield running


@pytest.fixture
def topic(kafka: EmbeddedKafka) -> TopicFactory:
    """Return a function that makes a topic of a unique name on ``kafka``, with N partitions, and returns the name."""

    def make(partitions: int = 1, *, on: EmbeddedKafka = kafka, **config: str) -> str:
        return make_topic(on.bootstrap_servers, partitions, config)

    return make


def make_topic(bootstrap_servers: str, partitions: int, config: dict[str, str]) -> str:
    """Create a topic and wait until every partition has a leader; underscores in config keys stand for dots."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "broker.address.family": "v4"})
    dotted = {key.replace("_", "."): value for key, value in config.items()}
    created = admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dotted)])
    created[name].result(TOPIC_TIMEOUT_S)
    deadline = time.monotonic() + TOPIC_TIMEOUT_S
    while time.monotonic() < deadline:
        seen = admin.list_topics(name, timeout=TOPIC_TIMEOUT_S).topics[name].partitions
        if len(seen) == partitions and all(partition.leader >= 0 for partition in seen.values()):
            return name
    raise TimeoutError(f"topic {name} has no leaders after {TOPIC_TIMEOUT_S} s")
