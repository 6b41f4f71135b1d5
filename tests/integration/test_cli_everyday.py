"""The everyday commands on a real Kafka: what they send, show and say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from recado.outcomes.offset_map import encode
from recado.record import HEADER_ID
from tests.command import Ran, recado
from tests.programs import eventually, read_all, running


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(kafka):
    """Run a command against the Kafka under test."""

    def run(*arguments: str, stdin: bytes | None = None, **environment: str) -> Ran:
        return recado(*arguments, stdin=stdin, RECADO_BOOTSTRAP_SERVERS=kafka.bootstrap_servers, **environment)

    return run


def produce(kafka, topic, *values, partition=-1, **more):
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all"})
    refused = []
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: refused.append(error), **more)
    assert producer.flush(30) == 0
    assert not any(refused), refused


def commit(kafka, group, topic, *offsets):
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    positions = [TopicPartition(topic, number, offset) for number, offset in enumerate(offsets)]
    eventually(lambda: not any(p.error for p in consumer.commit(offsets=positions, asynchronous=False)))
    consumer.close()


# send


def test_a_value_is_sent_and_its_place_told(run, kafka, topic):
    name = topic()
    ran = run("send", name, "Hola Kafka", "--key", "k1", "--header", "source=shop", "--header", "note=a=b")
    (record,) = read_all(kafka.bootstrap_servers, name)
    assert ran.code == 0
    assert f"delivered to {name}, partition 0, offset 0" in ran.out
    assert (record.value(), record.key()) == (b"Hola Kafka", b"k1")
    headers = dict(record.headers())
    assert headers.pop(HEADER_ID).decode() in ran.out
    assert headers == {"source": b"shop", "note": b"a=b"}


def test_json_of_one_record_is_what_kafka_has(run, kafka, topic):
    name = topic(3)
    ran = run("send", name, "ñ", "--partition", "2", "--json")
    (record,) = read_all(kafka.bootstrap_servers, name)
    assert ran.json == {
        "status": "delivered",
        "id": dict(record.headers())[HEADER_ID].decode(),
        "topic": name,
        "partition": 2,
        "offset": record.offset(),
        "timestamp": record.timestamp()[1],
    }


def test_an_id_is_a_uuid_whose_time_is_now(run, topic):
    name = topic()
    record_id = uuid.UUID(run("send", name, "x", "--json").json["id"])
    assert record_id.version == 7
    assert abs((record_id.int >> 80) / 1000 - time.time()) < 60


@pytest.mark.parametrize("dash", [["-"], []])
def test_each_line_of_stdin_is_a_record_in_order(run, kafka, topic, dash):
    name = topic()
    ran = run("send", name, *dash, stdin="one\r\n\nthree ñ".encode())
    assert ran.code == 0
    assert [record.value() for record in read_all(kafka.bootstrap_servers, name)] == [b"one", b"", "three ñ".encode()]
    assert f"3 of 3 records delivered to {name}" in ran.out


def test_many_lines_are_told_by_their_sum_and_every_one_arrives_once(run, kafka, topic):
    name = topic(3)
    ran = run("send", name, stdin=b"".join(b"%d\n" % number for number in range(50_000)))
    assert ran.code == 0
    assert "50,000 of 50,000 records delivered" in ran.out
    assert ran.out.count("partition") == 10 + 3
    values = sorted(int(record.value()) for record in read_all(kafka.bootstrap_servers, name))
    assert values == list(range(50_000))


def test_a_typed_line_is_confirmed_before_the_next_is_typed(kafka, topic, tmp_path):
    name = topic()
    send = subprocess.Popen(
        [sys.executable, "-m", "recado", "send", name],
        env={**os.environ, "RECADO_BOOTSTRAP_SERVERS": kafka.bootstrap_servers},
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert send.stdin is not None
        assert send.stdout is not None
        for offset in range(2):
            send.stdin.write(b"typed\n")
            send.stdin.flush()
            assert b"offset %d " % offset in send.stdout.readline()
        send.stdin.close()
        assert b"2 of 2 records delivered" in send.stdout.read()
        assert send.wait(30) == 0
    finally:
        send.kill()
        send.wait()
        send.stdout.close()


def test_lines_with_one_key_stay_in_order(run, kafka, topic):
    name = topic(3)
    run("send", name, "--key", "k", stdin=b"".join(b"%d\n" % number for number in range(5000)))
    assert [int(record.value()) for record in read_all(kafka.bootstrap_servers, name)] == list(range(5000))


def test_json_of_many_is_a_line_for_each_in_their_order(run, kafka, topic):
    name = topic()
    rows = run("send", name, "--json", stdin=b"a\nb\nc\n").json_lines
    ids = [dict(record.headers())[HEADER_ID].decode() for record in read_all(kafka.bootstrap_servers, name)]
    assert [row["id"] for row in rows] == ids
    assert [row["offset"] for row in rows] == [0, 1, 2]


def test_nothing_on_stdin_sends_nothing(run, kafka, topic):
    name = topic()
    ran = run("send", name, stdin=b"")
    assert (ran.code, ran.out) == (0, "Nothing to send: no line came.\n")
    assert read_all(kafka.bootstrap_servers, name) == []


def test_an_unknown_topic_is_told_with_the_command_that_makes_it(run):
    ran = run("send", "no-such-topic", "x")
    assert ran.code == 1
    assert "recado kafka topics --create --topic no-such-topic --partitions 3" in ran.err
    assert "no-such-topic" not in run("topics", "--all").out


def test_a_partition_that_the_topic_does_not_have_is_a_usage_error(run, topic):
    ran = run("send", topic(2), "x", "--partition", "2")
    assert ran.code == 2
    assert "0 to 1" in ran.err


def test_kafkas_own_topics_are_not_written_to(run, kafka, topic):
    commit(kafka, f"g-{uuid.uuid4().hex}", topic(), 0)  # makes __consumer_offsets
    assert run("send", "__consumer_offsets", "x").code == 1


def test_a_record_that_is_too_large_ends_it_after_those_before(run, kafka, topic):
    name = topic()
    ran = run("send", name, stdin=b"small\n" + b"x" * 500 + b"\nlater\n", RECADO_MAX_RECORD_BYTES="300")
    assert ran.code == 1
    assert "record 2 is larger than RECADO_MAX_RECORD_BYTES" in ran.err
    assert [record.value() for record in read_all(kafka.bootstrap_servers, name)] == [b"small"]


def test_a_record_that_kafka_refuses_is_told_with_code_1(run, topic):
    name = topic(max_message_bytes="1000")
    ran = run("send", name, "x" * 5000, "--json", RECADO_KAFKA_COMPRESSION_TYPE="none")
    assert ran.code == 1
    assert (ran.json["status"], ran.json["code"]) == ("failed", "record-too-large")


# tail


def test_the_last_records_of_all_partitions_come_in_the_order_of_their_time(run, kafka, topic):
    name = topic(3)
    now_ms = int(time.time() * 1000)
    for number in (0, 3, 6, 1, 4, 7, 2, 5, 8):
        produce(kafka, name, str(number), partition=number % 3, timestamp=now_ms + number)
    rows = run("tail", name, "--last", "4", "--no-follow", "--json").json_lines
    assert [row["value"] for row in rows] == ["5", "6", "7", "8"]


def test_from_the_beginning_up_to_a_number_of_records(run, kafka, topic):
    name = topic()
    produce(kafka, name, *(str(number) for number in range(10)))
    rows = run("tail", name, "--from-beginning", "--max", "3", "--json").json_lines
    assert [(row["offset"], row["value"]) for row in rows] == [(0, "0"), (1, "1"), (2, "2")]


@pytest.mark.parametrize("form", ["span", "time"])
def test_since_a_time(run, kafka, topic, form):
    name = topic()
    now = datetime.now(UTC)
    for ago_m in (60, 20, 5):
        produce(kafka, name, f"{ago_m}m", timestamp=int((now - timedelta(minutes=ago_m)).timestamp() * 1000))
    since = "30m" if form == "span" else (now - timedelta(minutes=30)).isoformat()
    assert [row["value"] for row in run("tail", name, "--since", since, "--no-follow", "--json").json_lines] == [
        "20m", "5m",
    ]  # fmt: skip
    assert run("tail", name, "--since", "1m", "--no-follow").out == ""


def test_an_empty_topic_shows_nothing(run, topic):
    for start in (["--from-beginning"], ["--last", "5"], ["--since", "1h"], []):
        ran = run("tail", topic(), *start, "--no-follow")
        assert (ran.code, ran.out) == (0, "")


def test_records_of_a_transaction_that_was_taken_back_do_not_show(run, kafka, topic):
    name = topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(30)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(30)
        end(30)
    ran = run("tail", name, "--from-beginning", "--no-follow", "--json")
    assert [row["value"] for row in ran.json_lines] == ["committed"]


def test_bytes_tombstones_and_headers_show_as_what_they_are(run, kafka, topic):
    name = topic()
    produce(kafka, name, b"\xff\xfe", None, key=b"\xfd", headers=[("h", b"1"), ("h", None)])
    lines = run("tail", name, "--from-beginning", "--no-follow", "-v").out.splitlines()
    assert lines[0].endswith("  0:0  [base64:/Q==] base64://4=")
    assert lines[3].endswith("  0:1  [base64:/Q==] (null)")
    assert lines[4:] == ["    h: 1", "    h: (null)"]
    binary, tombstone = run("tail", name, "--from-beginning", "--no-follow", "--json").json_lines
    assert (binary["value_base64"], binary["key_base64"], binary["id"]) == ("//4=", "/Q==", None)
    assert tombstone["value"] is None
    assert tombstone["headers"] == [{"name": "h", "value": "1"}, {"name": "h", "value": None}]


def test_tail_of_an_unknown_topic_is_told_and_makes_none(run):
    ran = run("tail", "no-such-topic-either")
    assert ran.code == 1
    assert "recado kafka topics --create --topic no-such-topic-either" in ran.err
    assert run("topics", "no-such-topic-either", "--all", "--json").json == []


def test_records_show_live_and_ctrl_c_ends_it_quietly(run, kafka, topic, tmp_path):
    name = topic(3)
    produce(kafka, name, "before")
    environment = {"RECADO_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    with running(["-m", "recado", "tail", name], environment, tmp_path) as program:
        sent = 0
        while "live" not in program.log:  # until it reads: it begins with what comes then
            produce(kafka, name, f"live {sent}", partition=sent % 3)
            sent += 1
            assert sent < 1000
        produce(kafka, name, "the last", partition=0)
        eventually(lambda: "the last" in program.log, why=program.log)
        assert program.stop(signal.SIGINT) == 0
        assert "before" not in program.log
        assert "Traceback" not in program.log
        assert len(program.log.splitlines()) <= sent + 1


def test_tail_leaves_no_group_behind(run, kafka, topic):
    name = topic()
    produce(kafka, name, "x")
    run("tail", name, "--from-beginning", "--no-follow")
    assert not [row for row in run("groups", "--json").json if "tail" in row["group"]]


def test_a_reader_that_has_seen_enough_ends_it(kafka, topic, tmp_path):
    name = topic()
    produce(kafka, name, *(b"x" * 100 for _ in range(20_000)))
    environment = {**os.environ, "RECADO_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    tail = subprocess.Popen(
        [sys.executable, "-m", "recado", "tail", name, "--from-beginning"],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert tail.stdout.readline()
        tail.stdout.close()
        assert tail.wait(30) == 0
        assert tail.stderr.read() == b""
    finally:
        tail.kill()
        tail.wait()
        tail.stderr.close()


# topics


def test_topics_show_layout_and_records(run, kafka, topic):
    name = topic(3)
    produce(kafka, name, *"abcde")
    ran = run("topics", name, "--json")
    assert ran.json == [{"name": name, "partitions": 3, "replicas": 1, "records": 5, "internal": False}]
    assert run("topics", name).out.splitlines() == ["topic\tpartitions\treplicas\trecords", f"{name}\t3\t1\t5"]


def test_a_pattern_chooses_and_internal_topics_stay_hidden(run, kafka, topic):
    one, other = topic(), topic()
    commit(kafka, f"g-{uuid.uuid4().hex}", one, 0)  # makes __consumer_offsets
    assert [row["name"] for row in run("topics", f"{one[:-1]}?", "--json").json] == [one]
    everyday = [row["name"] for row in run("topics", "--json").json]
    assert {one, other} <= set(everyday)
    assert everyday == sorted(everyday)
    assert not [name for name in everyday if name.startswith("__")]
    assert "__consumer_offsets" in [row["name"] for row in run("topics", "--all", "--json").json]


def test_a_pattern_without_a_match_says_so(run, topic):
    topic()
    ran = run("topics", "zzz*")
    assert (ran.code, ran.out) == (0, "")
    assert "No topic matches 'zzz*'" in ran.err
    assert run("topics", "zzz*", "--json").json == []


# groups


def test_a_group_shows_state_topics_and_lag(run, kafka, topic):
    name, group = topic(2), f"g-{uuid.uuid4().hex}"
    produce(kafka, name, *"abcd", partition=0)
    produce(kafka, name, *"ef", partition=1)
    commit(kafka, group, name, 1, 2)
    (row,) = [row for row in run("groups", "--json").json if row["group"] == group]
    assert row == {"group": group, "state": "empty", "members": 0, "topics": [name], "lag": 3}
    ran = run("groups", group)
    assert ran.out.splitlines() == [
        "topic\tpartition\tcommitted\tend\tlag\tmember",
        f"{name}\t0\t1\t4\t3\t-",
        f"{name}\t1\t2\t2\t0\t-",
    ]
    assert f"{group} is empty, 0 members" in ran.err


def test_what_is_not_done_below_a_done_record_is_listed_with_age_and_key(run, kafka, topic):
    name, group = topic(2), f"g-{uuid.uuid4().hex}"
    produce(kafka, name, *"abcdefgh", partition=0, key="k7")
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    beside = encode(2, [(3, 3), (6, 7)], 0).text
    consumer.commit(offsets=[TopicPartition(name, 0, 2, metadata=f"topic=AAAA;{beside}")], asynchronous=False)
    consumer.close()
    ran = run("groups", group, "--offsets", "--json").json
    assert [(row["partition"], row["offset"], row["key"]) for row in ran["offsets"]] == [
        (0, 2, "k7"),
        (0, 4, "k7"),
        (0, 5, "k7"),
    ]
    assert all(0 <= row["age_s"] < 300 for row in ran["offsets"])
    ran = run("groups", group, "--offsets", "--limit", "2")
    assert [line.split("\t")[2] for line in ran.out.splitlines()] == ["offset", "2", "4"]
    assert "1 more are not shown" in ran.err
    commit(kafka, group, name, 8)
    assert "nothing done beyond" in run("groups", group, "--offsets").err


def test_a_member_shows_what_it_holds_and_what_it_never_committed_is_lag(run, kafka, topic):
    name, group = topic(2), f"g-{uuid.uuid4().hex}"
    produce(kafka, name, *"abc", partition=1)
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": group, "client.id": "ana",
         "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )  # fmt: skip
    consumer.subscribe([name])
    try:
        eventually(lambda: consumer.poll(0.1) is not None or len(consumer.assignment()) == 2)
        shown = run("groups", group, "--json").json
    finally:
        consumer.close()
    assert (shown["state"], shown["lag"], shown["topics"]) == ("stable", 3, [name])
    assert shown["members"][0]["client"] == "ana"
    assert [(row["partition"], row["committed"], row["lag"]) for row in shown["partitions"]] == [
        (0, None, 0),
        (1, None, 3),
    ]
    assert all(row["member"].startswith("ana@") for row in shown["partitions"])


def test_an_unknown_group_is_told_with_the_nearest(run, kafka, topic):
    group = f"billing-{uuid.uuid4().hex}"
    commit(kafka, group, topic(), 0)
    ran = run("groups", group[:-1])
    assert ran.code == 1
    assert f"Did you mean {group}?" in ran.err


def test_a_group_whose_topic_was_deleted_still_shows(run, kafka, topic):
    gone, kept, group = topic(), topic(), f"g-{uuid.uuid4().hex}"
    commit(kafka, group, kept, 0)
    commit(kafka, group, gone, 0)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([gone])[gone].result(30)
    eventually(lambda: not run("topics", gone, "--json").json)
    assert run("groups", group).code == 0


# doctor


def checks(ran):
    return {row["check"]: row for row in ran.json}


PORTS = {"RECADO_PORT": "0", "RECADO_WORKER_PORT": "0"}


def test_a_healthy_kafka_has_no_problem(run, kafka, topic):
    name = topic(3)
    produce(kafka, name, "x")
    ran = run("doctor", "--json", "--topic", name, "--group", "nobody-yet", **PORTS)
    found = checks(ran)
    assert ran.code == 0, ran.out
    assert found["kafka"]["detail"].startswith("it answers over PLAINTEXT")
    assert f"{name} has 3 partitions, 1 replica" in found["topic"]["detail"]
    assert found["brokers"]["status"] == "ok"
    assert "does not exist yet" in found["group"]["detail"]
    assert "no record is from the future" in found["clock"]["detail"]


def test_a_missing_topic_is_a_problem_with_code_1(run):
    ran = run("doctor", "--json", "--topic", "not-there", **PORTS)
    assert ran.code == 1
    assert "recado kafka topics --create --topic not-there" in checks(ran)["topic"]["remedy"]


def test_lag_without_a_member_is_a_warning(run, kafka, topic):
    name, group = topic(), f"g-{uuid.uuid4().hex}"
    produce(kafka, name, *"abc")
    commit(kafka, group, name, 1)
    found = checks(run("doctor", "--json", "--topic", name, "--group", group, **PORTS))
    assert found["group"]["status"] == "warning"
    assert "a lag of 2 records" in found["group"]["detail"]


def test_a_record_from_the_future_puts_the_clock_in_doubt(run, kafka, topic):
    name = topic()
    produce(kafka, name, "x", timestamp=int((time.time() + 600) * 1000))
    assert checks(run("doctor", "--json", "--topic", name, **PORTS))["clock"]["status"] == "warning"


def test_the_wrong_security_protocol_is_told_from_an_absent_kafka(run):
    ran = run("doctor", "--json", RECADO_KAFKA_SECURITY_PROTOCOL="ssl", **PORTS)
    assert ran.code == 4
    assert checks(ran)["way to kafka"]["status"] == "ok"
    assert "security.protocol" in checks(ran)["kafka"]["remedy"]
