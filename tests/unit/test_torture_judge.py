"""The judge of a torture: it lets the truth pass, and catches every lie."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.torture.fates import read_answer
from recado.torture.history import Answered, Fate, History, Outage, Request, Sent, read
from recado.torture.judge import Ending, Found, judge
from recado.torture.witness import parse_line

ENDED = Ending(1, 200, "{}", 0)


def request(*pairs, at=0.0, took=0.1, status=200, wait=5.0, error=""):
    """A request of pairs (key, number, answered)."""
    return Request(
        sender=0, gateway=1, form="object", prefer="", wait_s=wait, sent_s=at, done_s=at + took, status=status,
        records=tuple(Sent(key, number) for key, number, _ in pairs),
        answers=tuple(answered for _, _, answered in pairs), error=error,
    )  # fmt: skip


def delivered(offset, id_="", partition=0):
    return Answered(Fate.DELIVERED, id_ or f"id-{partition}-{offset}", partition, offset)


def found(key, number, offset, id_="", partition=0):
    return Found(key, number, id_ or f"id-{partition}-{offset}", partition, offset)


REFUSED, UNKNOWN = Answered(Fate.REFUSED), Answered(Fate.UNKNOWN)


def broken(history, records, endings=(ENDED,)):
    judgement = judge(history, records, endings)
    assert judgement.passed == all(check.holds for check in judgement.checks)
    assert all(bool(check.cases) == (check.broken > 0) for check in judgement.checks)
    return {check.name for check in judgement.checks if not check.holds}


#: A short truth: a and b delivered, c accepted, d refused, e unknown.
TRUTH = [
    request(("a", 1, delivered(0))),
    request(("a", 2, delivered(1)), ("b", 1, delivered(0, partition=1)), at=1),
    request(("a", 3, Answered(Fate.ACCEPTED, "c")), at=1.5, status=202),
    request(("d", 1, REFUSED), at=2, status=503),
    request(("e", 1, UNKNOWN), at=3, took=6.0, status=504),
]
IN_KAFKA = [found("a", 1, 0), found("a", 2, 1), found("b", 1, 0, partition=1), found("a", 3, 2, "c")]


def test_the_truth_passes_whatever_became_of_the_unknown():
    assert broken(TRUTH, IN_KAFKA) == set()
    assert broken(TRUTH, [*IN_KAFKA, found("e", 1, 3)]) == set()


@pytest.mark.parametrize("missing", range(4))
def test_each_record_that_was_answered_200_or_202_is_missed(missing):
    assert "lost" in broken(TRUTH, IN_KAFKA[:missing] + IN_KAFKA[missing + 1 :])


@pytest.mark.parametrize("change", [{"offset": 7}, {"partition": 3}])
def test_a_200_with_another_position_is_caught(change):
    assert "wrong position" in broken(TRUTH, [replace(IN_KAFKA[0], **change), *IN_KAFKA[1:]])


def test_a_position_that_holds_somebody_elses_record_is_caught():
    swapped = [found("a", 1, 0, "id-0-1"), found("b", 1, 1, "id-0-0")]
    history = [request(("a", 1, delivered(0))), request(("b", 1, delivered(1)))]
    assert broken(history, swapped) == {"wrong id"}
    assert "wrong position" in broken(history, [replace(swapped[0], offset=1), replace(swapped[1], offset=0)])


def test_a_refused_record_that_is_there_is_caught():
    assert broken(TRUTH, [*IN_KAFKA, found("d", 1, 3)]) == {"refused but there"}


def test_a_record_that_nobody_sent_is_caught():
    assert broken(TRUTH, [*IN_KAFKA, found("z", 1, 3)]) == {"never sent"}


def test_a_duplicate_is_counted_and_must_carry_the_same_id():
    again = found("a", 1, 3, "id-0-0")
    judgement = judge(TRUTH, [*IN_KAFKA, again], [ENDED])
    assert judgement.passed
    assert judgement.figures["duplicates"] == 1
    assert broken(TRUTH, [*IN_KAFKA, replace(again, id="other")]) == {"wrong id"}


def test_one_id_for_two_records_is_caught():
    history = [request(("a", 1, delivered(0, "same"))), request(("b", 1, delivered(1, "same")))]
    assert broken(history, [found("a", 1, 0, "same"), found("b", 1, 1, "same")]) == {"wrong id"}


def test_a_record_without_an_id_is_caught():
    history = [request(("a", 1, UNKNOWN), status=504), request(("b", 1, delivered(1)))]
    assert broken(history, [Found("a", 1, "", 0, 0), found("b", 1, 1)]) == {"wrong id"}


def test_a_key_that_went_back_is_caught():
    history = [
        request(("a", 1, Answered(Fate.ACCEPTED, "one")), status=202),
        request(("a", 2, Answered(Fate.ACCEPTED, "two")), at=1, status=202),
    ]
    assert broken(history, [found("a", 1, 0, "one"), found("a", 2, 1, "two")]) == set()
    assert broken(history, [found("a", 1, 1, "one"), found("a", 2, 0, "two")]) == {"out of order"}
    assert broken(history, [found("a", 1, 0, "one", 1), found("a", 2, 1, "two", 2)]) == {"out of order"}


def test_order_is_that_of_first_occurrences_and_unknown_records_do_not_bind():
    late_copy = [found("a", 1, 0, "one"), found("a", 2, 1, "two"), found("a", 1, 2, "one")]
    history = [
        request(("a", 1, UNKNOWN), status=504),
        request(("a", 2, Answered(Fate.ACCEPTED, "two")), at=1, status=202),
    ]
    assert broken(history, late_copy) == set()
    assert broken(history, [found("a", 1, 1, "one"), found("a", 2, 0, "two")]) == set()


@pytest.mark.parametrize(("took", "late"), [(5.9, False), (6.1, True)])
def test_an_answer_after_its_wait_and_a_second_is_late(took, late):
    history = [request(("a", 1, delivered(0)), took=took)]
    assert broken(history, [found("a", 1, 0)]) == ({"late"} if late else set())


def test_time_in_which_the_gateway_was_out_does_not_count():
    stopped = Outage(1, "stop-gateway", 1.0, 5.0)
    elsewhere = Outage(2, "stop-gateway", 1.0, 5.0)
    history = [request(("a", 1, delivered(0)), took=9.5)]
    assert broken([*history, stopped], [found("a", 1, 0)]) == set()
    assert broken([*history, elsewhere], [found("a", 1, 0)]) == {"late"}
    assert broken([request(("a", 1, delivered(0)), took=10.5), stopped], [found("a", 1, 0)]) == {"late"}


def test_a_request_without_an_answer_needs_an_outage():
    history = [request(("a", 1, delivered(0))), request(("b", 1, UNKNOWN), at=2, status=0, error="reset")]
    assert broken(history, [found("a", 1, 0)]) == {"broken off"}
    assert broken([*history, Outage(1, "kill-gateway", 2.05, 4.0)], [found("a", 1, 0)]) == set()
    assert broken([*history, Outage(2, "kill-gateway", 2.05, 4.0)], [found("a", 1, 0)]) == {"broken off"}


def test_an_answer_outside_the_contract_is_caught():
    history = [request(("a", 1, delivered(0))), request(("b", 1, UNKNOWN), status=500, error="not in the contract")]
    assert broken(history, [found("a", 1, 0)]) == {"not in the contract"}


@pytest.mark.parametrize("ending", [Ending(1, 504, "pending 3", 0), Ending(1, 200, "", 3), Ending(1, 0, "refused", 0)])
def test_a_gateway_that_keeps_something_at_the_end_is_caught(ending):
    assert broken(TRUTH, IN_KAFKA, [ending]) == {"not drained"}


@pytest.mark.parametrize("history", [[], [request(("d", 1, REFUSED), status=503)]])
def test_a_run_in_which_nothing_was_taken_proves_nothing(history):
    assert broken(history, []) == {"put to the test"}


#: One log of one partition: for each record whether it was answered delivered, accepted, unknown (and is there or
#: not) or refused. Built so that it is true.
_FATES = st.lists(st.sampled_from(["delivered", "accepted", "unknown", "unknown, away", "refused"]), max_size=30)


def _true_run(fates):
    history, records = [request(("first", 1, delivered(0, "i-0")))], [found("first", 1, 0, "i-0")]
    for number, fate in enumerate(fates, 1):
        offset, id_ = len(records), f"i-{number}"
        answers = {"delivered": delivered(offset, id_), "accepted": Answered(Fate.ACCEPTED, id_), "refused": REFUSED}
        history.append(request(("a", number, answers.get(fate, UNKNOWN)), at=float(number)))
        if fate in ("delivered", "accepted", "unknown"):
            records.append(found("a", number, offset, id_))
    return history, records


@given(_FATES)
def test_every_true_run_passes(fates):
    assert broken(*_true_run(fates)) == set()


@given(_FATES, st.data())
def test_every_loss_of_what_was_answered_is_caught(fates, data):
    history, records = _true_run(fates)
    gone = data.draw(st.sampled_from(records))
    answered = {
        (sent.key, sent.number): answer.fate
        for entry in history
        for sent, answer in zip(entry.records, entry.answers, strict=True)
    }
    taken = answered[gone.key, gone.number] is not Fate.UNKNOWN
    assert ("lost" in broken(history, [record for record in records if record is not gone])) == taken


@given(_FATES, st.data())
def test_every_swap_of_two_accepted_records_of_a_key_is_caught(fates, data):
    history, records = _true_run(["accepted", *fates, "accepted"])
    bound = [index for index, record in enumerate(records) if record.key == "a"]
    pair = data.draw(st.sets(st.sampled_from([bound[0], bound[-1]]), min_size=2))
    low, high = sorted(pair)
    one, two = records[low], records[high]
    records[low], records[high] = replace(two, offset=one.offset), replace(one, offset=two.offset)
    assert "out of order" in broken(history, records)


def test_a_history_can_be_judged_again_from_its_file(tmp_path):
    with History(tmp_path / "history.jsonl") as history:
        for entry in [*TRUTH, Outage(1, "kill-gateway", 0.5, 0.7)]:
            history.add(entry)
    assert read(history.path) == history.entries


JSON, LINES, PROBLEM = "application/json", "application/x-ndjson", "application/problem+json"
OK = b'{"status":"delivered","id":"i","topic":"t","partition":2,"offset":3,"timestamp":4}'


@pytest.mark.parametrize(
    ("status", "media_type", "body", "answers"),
    [
        (200, JSON, OK, [Answered(Fate.DELIVERED, "i", 2, 3)]),
        (202, JSON, b'{"status":"accepted","id":"i"}', [Answered(Fate.ACCEPTED, "i")]),
        (504, JSON, b'{"status":"unknown","id":"i"}', [Answered(Fate.UNKNOWN, "i")]),
        (503, PROBLEM, b'{"status":503,"code":"kafka-unreachable"}', [REFUSED, REFUSED]),
        (429, PROBLEM, b'{"status":429,"code":"backpressure"}', [REFUSED]),
        (504, PROBLEM, b'{"status":504,"code":"delivery-unknown"}', [UNKNOWN]),
        (200, LINES, OK + b"\n" + OK + b"\n", [Answered(Fate.DELIVERED, "i", 2, 3)] * 2),
        (207, JSON, b"[" + OK + b',{"status":"failed","id":"j"}]',
         [Answered(Fate.DELIVERED, "i", 2, 3), Answered(Fate.REFUSED, "j")]),
        (503, JSON, b'[{"status":"failed","id":"j"}]', [Answered(Fate.REFUSED, "j")]),
    ],
)  # fmt: skip
def test_an_answer_is_read_as_the_contract_has_it(status, media_type, body, answers):
    assert list(read_answer(status, media_type, body, len(answers))) == answers


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (500, PROBLEM, b'{"status":500,"code":"internal"}'),
        (200, JSON, b'{"status":"accepted","id":"i"}'),
        (202, JSON, OK),
        (200, JSON, b"[" + OK + b"," + OK + b"]"),
        (200, JSON, b'{"status":"fine"}'),
        (200, PROBLEM, b"{}"),
        (200, "text/html", b"<p>"),
    ],
)
def test_an_answer_outside_the_contract_is_refused(status, media_type, body):
    with pytest.raises(ValueError, match=r"status|results|Expecting"):
        read_answer(status, media_type, body, 1)


def test_the_witness_reads_what_the_console_consumer_prints():
    line = 'Partition:4\tOffset:17\trecado-id:0199-a,content-type:application/json\tk1\t{"key":"k1","number":3}'
    assert parse_line(line) == Found("k1", 3, "0199-a", 4, 17)
    assert parse_line("Partition:0\tOffset:0\tNO_HEADERS\tk\tnot ours") == Found("k", 0, "", 0, 0)
    assert parse_line("Processed a total of 3 messages") is None
