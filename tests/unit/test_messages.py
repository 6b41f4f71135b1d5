"""GET /messages while Kafka does not answer: what waits on this gateway's disk is known all the same."""

from __future__ import annotations

import threading

import pytest
from uuid_utils import uuid7

from recado.clock import Deadline
from recado.errors import KafkaUnreachable, UnknownTopic
from recado.gateway import searching
from recado.gateway.api import create_app
from recado.gateway.messages import Messages
from recado.gateway.problem import Problem
from recado.gateway.server import gateway_of
from recado.kafka.abstract import Link
from recado.settings import Settings
from recado.tracking.where import Whereabouts
from tests.fronts import FakeKafka
from tests.programs import eventually


def test_what_waits_on_the_gateways_disk_is_accepted(tmp_path):
    kafka = FakeKafka()
    kafka.fate = lambda number, record: None
    settings = Settings(bootstrap_servers="127.0.0.1:1", data_dir=tmp_path)
    app = create_app(settings, connect=lambda _: Link(kafka, kafka, lambda: kafka))
    http = app.test_client()
    sent = http.post("/send", json={"message": "x"}, headers={"Prefer": "respond-async"})
    assert sent.status_code == 202
    found = http.get(sent.headers["Location"])
    assert (found.status_code, found.json["state"], found.json["id"]) == (200, "accepted", sent.json["id"])
    other = http.get(f"/messages/flask-topic/{uuid7()}")
    assert (other.status_code, other.json["code"]) == (503, "kafka-unreachable")
    gateway_of(app).close(Deadline(0.1))


@pytest.mark.parametrize("place", ["0/0", str(uuid7())], ids=["place", "id"])
def test_a_group_without_a_name_is_refused_and_not_taken_for_all(place, tmp_path):
    kafka = FakeKafka()
    settings = Settings(bootstrap_servers="127.0.0.1:1", data_dir=tmp_path, spool=False)
    http = create_app(settings, connect=lambda _: Link(kafka, kafka, lambda: kafka)).test_client()
    answer = http.get(f"/messages/flask-topic/{place}?group=")
    assert (answer.status_code, answer.json.get("field")) == (422, "group")


class Slow:
    """A look that takes until the test lets it go on."""

    def __init__(self, go_on: threading.Event) -> None:
        self.counts = {"orders": 1}
        self._go_on = go_on

    def partitions(self, topic: str) -> None:
        self._go_on.wait(20)
        raise KafkaUnreachable("away")


def test_only_a_few_search_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "TURN_S", 0.05)
    go_on = threading.Event()
    asked = Messages(Settings(data_dir=tmp_path), look=lambda _: Slow(go_on))  # type: ignore[arg-type,return-value]

    def ask() -> None:
        with pytest.raises(KafkaUnreachable):
            asked.by_id("orders", str(uuid7()), "")

    threads = [threading.Thread(target=ask) for _ in range(searching.AT_ONCE)]
    for thread in threads:
        thread.start()
    eventually(lambda: asked._turns._free._value == 0)  # until all of them are at it
    with pytest.raises(Problem) as refused:
        asked.by_id("orders", str(uuid7()), "")
    assert refused.value.status == 429
    go_on.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("found", ["dead", "unknown"])
def test_a_topic_that_is_gone_is_unknown_only_where_no_copy_is_left_either(tmp_path, monkeypatch, found):
    asked = Messages(Settings(data_dir=tmp_path), look=lambda _: Slow(threading.Event()))  # type: ignore[arg-type,return-value]
    for name in ("at_offset", "by_id"):
        monkeypatch.setattr(
            f"recado.gateway.messages.{name}",
            lambda *place, **options: Whereabouts(id="i", topic="gone", state=found),
        )
    for ask in (lambda: asked.by_id("gone", str(uuid7()), ""), lambda: asked.at_offset("gone", 0, 0, "")):
        if found == "unknown":
            with pytest.raises(UnknownTopic):
                ask()
        else:
            assert ask().status == 200
