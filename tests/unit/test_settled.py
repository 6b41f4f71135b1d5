"""What is settled is told in few records, and read back from them; pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.errors import RecadoError
from recado.kafka.memory import MemoryMessage
from recado.letters.filter import Filter
from recado.outcomes.settled import CHUNK, Discard, Job, Settled
from recado.record import Outgoing, TopicPartition

#: Topic ids are base64: they may hold a slash.
IDS = {"dlq.g.t": "a/b+c=_-", "dlq.g.u": "x"}


def read_back(records: list[Outgoing], ids=IDS) -> Settled:
    settled = Settled("g", ids)
    for record in records:
        settled.take(record.key, record.value)
    return settled


@given(st.sets(st.integers(0, 3 * CHUNK)), st.sets(st.integers(0, 3 * CHUNK)))
def test_it_comes_back_as_it_was(redriven, discarded):
    where, first = TopicPartition("dlq.g.t", 1), Settled("g", IDS)
    records = [
        *first.settle([(where, offset) for offset in sorted(redriven)], "redriven"),
        *first.settle([(where, offset) for offset in sorted(discarded)], "discarded"),
    ]
    again = read_back(records)
    for offset in redriven | discarded:
        expected = "discarded" if offset in discarded else "redriven"
        assert first.of("dlq.g.t", 1, offset) == again.of("dlq.g.t", 1, offset) == expected
    assert again.of("dlq.g.t", 0, next(iter(redriven), 0)) is None
    assert again.count("dlq.g.t") == {"redriven": len(redriven), "discarded": len(discarded)}
    assert again.count("dlq.g.u") == {"redriven": 0, "discarded": 0}


def test_what_kafka_has_deleted_meanwhile_does_not_count():
    settled, where = Settled("g", IDS), TopicPartition("dlq.g.t", 0)
    settled.settle([(where, offset) for offset in (0, 9, CHUNK, CHUNK + 9, 3 * CHUNK)], "redriven")
    assert settled.count("dlq.g.t", {0: 0})["redriven"] == 5
    assert settled.count("dlq.g.t", {0: 9})["redriven"] == 4
    assert settled.count("dlq.g.t", {0: CHUNK + 1})["redriven"] == 2
    assert settled.count("dlq.g.t", {0: 9 * CHUNK, 1: 0})["redriven"] == 0


def test_what_kafka_has_deleted_and_nobody_settled_is_known():
    settled, where = Settled("g", IDS), TopicPartition("dlq.g.t", 0)
    settled.settle([(where, 0), (where, CHUNK)], "redriven")
    settled.settle([(where, 2)], "discarded")
    either = ("redriven", "discarded")
    assert list(settled.others("dlq.g.t", 0, 4, than=either)) == [1, 3]
    assert list(settled.others("dlq.g.t", 0, 4, than=["redriven"])) == [1, 2, 3]
    assert list(settled.others("dlq.g.t", 1, 2, than=either)) == [0, 1]
    assert CHUNK not in settled.others("dlq.g.t", 0, CHUNK + 2, than=either)
    assert CHUNK + 1 in settled.others("dlq.g.t", 0, CHUNK + 2, than=either)
    assert not settled.others("dlq.g.t", 0, 0, than=either)


def test_any_number_of_letters_takes_a_record_for_each_65_536_offsets():
    settled = Settled("g", IDS)
    records = settled.settle([(TopicPartition("dlq.g.t", 0), n) for n in range(0, 2 * CHUNK, 2)], "discarded")
    assert len(records) == 2
    assert max(len(record.value or b"") for record in records) < 12_000


def test_a_topic_that_was_made_anew_has_nothing_settled():
    records = Settled("g", IDS).settle([(TopicPartition("dlq.g.t", 0), 1)], "redriven")
    assert read_back(records, {"dlq.g.t": "other"}).of("dlq.g.t", 0, 1) is None


def test_nothing_is_settled_in_a_topic_whose_id_is_not_known():
    with pytest.raises(RecadoError, match=r"the id of topic dlq\.g\.v"):
        Settled("g", IDS).settle([(TopicPartition("dlq.g.v", 0), 1)], "redriven")


def test_jobs_and_discards_are_noted_and_nonsense_is_passed_over():
    settled = Settled("g", IDS)
    job = Job(id="1", at=1, by="ana", asked={"kind": "x"}, ends={"dlq.g.t/0": 4})
    discard = Discard(id="2", at=2, by="ana", reason="test", letters=1, first=["dlq.g.t/0/1"])
    again = read_back([settled.note(job), settled.note(discard)])
    for key, value in ((b"letters a", b"{}"), (b"letters dlq.g.t x 0 0", b"no"), (b"note 3", b"[]"), (None, None)):
        again.take(key, value)
    assert (again.jobs, again.discards) == ({"1": job}, {"2": discard})


def test_what_a_redrive_brought_back_is_known_until_it_has_its_end():
    settled, where = Settled("g", IDS), TopicPartition("dlq.g.t", 1)
    records = settled.job_letters.add("1", [(where, offset) for offset in (3, 9, CHUNK + 4)])
    records += settled.job_letters.add("2", [(where, 5)])
    assert len(records) == 3

    def known(of: Settled, id_: str) -> list[tuple[TopicPartition, int]]:
        return sorted((at, first + bit) for at, first, bits in of.job_letters.of(id_) for bit in bits)

    again = read_back(records)
    assert known(again, "1") == known(settled, "1") == [(where, 3), (where, 9), (where, CHUNK + 4)]
    assert known(again, "2") == [(where, 5)]
    assert known(read_back(records, {"dlq.g.t": "other"}), "1") == []
    gone = again.job_letters.forget("1")
    assert [record.value for record in gone] == [None, None]
    assert (known(again, "1"), known(read_back([*records, *gone]), "1")) == ([], [])
    assert known(again, "2") == [(where, 5)]


def test_a_filter_means_what_all_of_it_says():
    message = MemoryMessage(Outgoing("dlq.g.t", b"a value", "id", b"k", [("recado-failure", b"X in y")]), 0, 3, 5_000)
    for wanted in (Filter(), Filter(kind="X in y"), Filter(key="k"), Filter(text="value"), Filter(since=5_000)):
        assert wanted.means(message, "g")
    assert Filter(letters=["dlq.g.t/0/3"], kind="X in y", until=5_001).means(message, "g")
    for wanted in (
        Filter(letters=["dlq.g.t/0/4"]), Filter(kind="X"), Filter(key="j"), Filter(text="nothing"),
        Filter(since=5_001), Filter(until=5_000), Filter(topic="other"),
    ):  # fmt: skip
        assert not wanted.means(message, "g")


def test_a_letter_without_headers_is_of_the_topic_whose_dead_letters_it_lies_among():
    message = MemoryMessage(Outgoing("dlq.g.orders", b"v", "", b"k"), 0, 3, 5_000)
    assert Filter(topic="orders").means(message, "g")
    assert not Filter(topic="other").means(message, "g")
    told = MemoryMessage(
        Outgoing("dlq.g.orders", b"v", "", b"k", [("kafka_dlt-original-topic", b"other")]), 0, 3, 5_000
    )
    assert Filter(topic="other").means(told, "g")
    assert not Filter(topic="orders").means(told, "g")
