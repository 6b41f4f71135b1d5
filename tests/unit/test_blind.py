"""Looking whether a client is blind, where no second client and no thread is to be had."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from recado.errors import ConfigurationError
from recado.kafka import blind
from recado.kafka.blind import Blindness
from tests.programs import eventually

NO_FILE = KafkaException(KafkaError(KafkaError._INVALID_ARG, "ssl.ca.location failed: No such file"))


class Sees:
    def __init__(self, *brokers: int) -> None:
        self._brokers = brokers

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> SimpleNamespace:
        return SimpleNamespace(brokers=self._brokers)


@pytest.mark.parametrize("trouble", [NO_FILE, ConfigurationError("ssl.ca.location: no such file")])
def test_without_a_second_client_nothing_is_found_and_the_next_look_comes(monkeypatch, trouble):
    monkeypatch.setattr(blind, "REST_S", 0.01)
    tries, found = [], threading.Event()

    def other() -> Sees:
        tries.append(1)
        if len(tries) < 3:
            raise trouble
        return Sees(1)

    looking = Blindness(other)

    def look() -> bool:
        looking.suspect(Sees(), found.set)
        return found.is_set()

    with capture_logs() as logs:
        eventually(look)
    assert len(tries) == 3
    assert [(entry["log_level"], "second client" in entry["event"]) for entry in logs] == [("error", True)]


def test_without_a_thread_the_next_look_comes(monkeypatch):
    monkeypatch.setattr(blind, "REST_S", 0.01)
    found = threading.Event()
    looking = Blindness(lambda: Sees(1))

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", no_thread)
        looking.suspect(Sees(), found.set)

    def look() -> bool:
        looking.suspect(Sees(), found.set)
        return found.is_set()

    eventually(look)
