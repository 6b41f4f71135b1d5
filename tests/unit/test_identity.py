"""The topic's id beside a committed offset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recado.kafka.identity import TopicIds, stamped, unstamped


@given(st.from_regex(r"[A-Za-z0-9+/]{22}", fullmatch=True), st.text())
def test_what_was_stored_beside_an_offset_comes_back(topic_id, metadata):
    assert unstamped(stamped(topic_id, metadata)) == (topic_id, metadata)


@given(st.text().filter(lambda text: not text.startswith("topic=")))
def test_metadata_of_others_tells_no_id(metadata):
    assert unstamped(metadata) == ("", metadata)
    assert stamped("", metadata) == metadata


def test_an_id_that_could_not_be_learned_at_first_is_learned_later(monkeypatch):
    """Else no commit of that stay would carry it, and whoever goes on after a kill could not trust its offset map."""
    from concurrent.futures import Future
    from types import SimpleNamespace

    answers: list[object] = [TimeoutError(), SimpleNamespace(topic_id="ID")]

    def ask(self, topics):
        future: Future = Future()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return dict.fromkeys(topics, future)

    monkeypatch.setattr(TopicIds, "_ask", ask)
    monkeypatch.setattr(TopicIds, "_connected", lambda self: None)
    ids = TopicIds({})
    assert ids.learn(["orders"]) == {}
    assert ids.of("orders") == ""
    assert ids.changed(["orders"]) is None, "asked"
    assert ids.changed(["orders"]) == {}, "no other topic"
    assert ids.of("orders") == "ID"


def test_when_nobody_answers_the_next_question_goes_out_by_another_client(monkeypatch):
    """A broker that hangs keeps its connections: asked again by the same client, it might be the one asked again."""
    from concurrent.futures import Future
    from types import SimpleNamespace

    from confluent_kafka import KafkaError, KafkaException

    clients: list[object] = []
    answers: list[object] = [
        KafkaException(KafkaError(KafkaError._TIMED_OUT)),
        KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)),
        SimpleNamespace(topic_id="ID"),
    ]

    def ask(self, topics):
        future: Future = Future()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return dict.fromkeys(topics, future)

    monkeypatch.setattr(TopicIds, "_ask", ask)
    monkeypatch.setattr(TopicIds, "_connected", lambda self: clients.append(object()))
    ids = TopicIds({})
    assert (ids.learn(["orders"]), len(clients)) == ({}, 2), "nothing was told"
    assert (ids.learn(["orders"]), len(clients)) == ({"orders": ""}, 2), "it will not be told"
    assert (ids.learn(["orders"]), len(clients)) == ({"orders": "ID"}, 2)
