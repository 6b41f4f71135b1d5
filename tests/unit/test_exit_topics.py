"""The thread that makes a group's topics outlives whatever goes wrong with one of them."""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest

from recado.errors import KafkaUnreachable, RecadoError
from recado.kafka import admin as admin_module
from recado.kafka.admin import Admin
from recado.settings import Settings
from recado.worker.ways.exit_topics import ExitTopics


class Cluster:
    """Stands for an outlet: topics, and the client that makes them."""

    def __init__(self, *failures: Exception) -> None:
        self.there, self.failures = {"orders": 3}, list(failures)
        self.topics = self.clients = self
        self.configs: dict[str, dict[str, str]] = {}

    def refresh(self) -> None:
        pass

    def partitions(self, topic: str) -> int | None:
        return self.there.get(topic)

    def takes_bytes(self, topic: str) -> int:
        return {"orders": 3_000_000}.get(topic, 0)

    def create_topic(self, topic: str, *, partitions: int, config) -> bool:
        if self.failures:
            raise self.failures.pop(0)
        self.configs[topic] = config
        self.there[topic] = partitions
        return True


def counted(topics: ExitTopics, topic: str) -> int:
    deadline = time.monotonic() + 10
    while (count := topics.partitions(topic, "orders")) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert count is not None
    return count


@pytest.fixture
def exit_topics(request):
    cluster = Cluster(*request.param)
    found = ExitTopics(outlet=lambda: cluster, delay_topics=lambda: None, max_record_bytes=1000)
    found.cluster = cluster
    yield found
    found.close()


@pytest.mark.parametrize("exit_topics", [[]], indirect=True)
def test_a_topic_of_copies_takes_what_its_source_takes(exit_topics):
    counted(exit_topics, "dlq.g.orders")
    assert int(exit_topics.cluster.configs["dlq.g.orders"]["max.message.bytes"]) > 3_000_000


@pytest.mark.parametrize("exit_topics", [[ValueError("a mistake")]], indirect=True)
def test_what_nobody_expected_is_told_and_the_next_time_it_is_tried_again(exit_topics):
    with pytest.raises(RecadoError, match=r"dlq\.g\.orders: ValueError: a mistake"):
        counted(exit_topics, "dlq.g.orders")
    assert counted(exit_topics, "dlq.g.orders") == 3


@pytest.mark.parametrize("exit_topics", [[KafkaUnreachable("no answer")]], indirect=True)
def test_while_no_broker_answers_it_goes_on_trying(exit_topics, monkeypatch):
    monkeypatch.setattr("recado.worker.ways.exit_topics.AGAIN_S", 0.01)
    assert counted(exit_topics, "dlq.g.orders") == 3


def test_a_broker_that_takes_the_question_and_says_nothing_is_unreachable(monkeypatch):
    monkeypatch.setattr(admin_module, "TIMEOUT_S", -0.99)
    admin = Admin(Settings(bootstrap_servers="127.0.0.1:1"))
    monkeypatch.setattr(admin, "client", type("Silent", (), {"create_topics": lambda *_, **__: {"t": Future()}})())
    with pytest.raises(KafkaUnreachable, match="creating topic t: no answer"):
        admin.create_topic("t", partitions=1)
