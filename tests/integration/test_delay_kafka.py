"""Delayed records on a real Kafka: never early, in the order of their due times, and none lost to a kill."""

from __future__ import annotations

import http.client
import json
import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from recado.embedded import EmbeddedKafka
from tests.conftest import make_topic
from tests.kafka_fixture import start_kafka
from tests.programs import committed, eventually, gateway, read_all, running

start = contextmanager(gateway)

#: A group needs some seconds to give a new member its partitions, more where one was killed.
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory):
    """A broker of its own: the delay topics and their group are the same for all gateways of a cluster."""
    with start_kafka(tmp_path_factory.mktemp("delay")) as running:
        yield running


@pytest.fixture
def topic(own: EmbeddedKafka) -> str:
    return make_topic(own.bootstrap_servers, 1, {})


def post(port: int, path: str, body: bytes, content_type: str, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type, **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def send(port: int, payload: Any) -> tuple[int, Any]:
    return post(port, "/send", json.dumps(payload).encode(), "application/json")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def landed(own: EmbeddedKafka, topic: str, count: int) -> list[Any]:
    def look():
        found = read_all(own.bootstrap_servers, topic)
        return found if len(found) >= count else None

    return eventually(look, within_s=WITHIN_S, why=lambda: f"{len(read_all(own.bootstrap_servers, topic))} of {count}")


def test_records_land_when_due_in_order_and_as_they_were(own, topic, tmp_path):
    with start(own.bootstrap_servers, tmp_path) as (program, port):
        assert send(port, {"message": "warm", "topic": topic, "delay": "1ms"})[0] == 202
        landed(own, topic, 1)
        delays = [2500, 0, 1200, 300, 1800, 2900, 700]
        status, answers = send(
            port,
            [
                {"message": str(delay), "topic": topic, "delay": f"{delay}ms", "headers": {"recado-delay": "mine"}}
                for delay in delays
            ],
        )
        assert status == 207  # one is due now
        assert sorted({answer["status"] for answer in answers}) == ["accepted", "delivered"]
        status, answer = post(port, f"/send/{topic}?delay=2s&key=k&timestamp=1700000000000&id=own", b"\0raw", "a/b")
        assert (status, answer["status"], answer["topic"], answer["id"]) == (202, "accepted", topic, "own")
        found = landed(own, topic, 9)[1:]
        raw = next(message for message in found if message.value() == b"\0raw")
        assert (raw.key(), raw.timestamp()[1]) == (b"k", 1_700_000_000_000)
        assert raw.headers() == [("recado-id", b"own"), ("content-type", b"a/b")]
        rest = [message for message in found if message is not raw]
        assert [int(message.value()) for message in rest] == sorted(delays)
        base = rest[0].timestamp()[1]
        for message in rest[1:]:
            late = message.timestamp()[1] - base - int(message.value())
            assert -50 <= late < 1500  # that of 0 ms was stamped some ms after the delays were counted from
            assert [name for name, _ in message.headers()] == ["recado-id", "recado-delay"]
        assert program.stop() == 0
    sums = sum(committed(own.bootstrap_servers, "recado.delay", "recado.delay.2s", 3).values())
    assert sums == len(read_all(own.bootstrap_servers, "recado.delay.2s"))


def test_a_kill_in_between_loses_nothing_and_makes_nothing_early(own, topic, tmp_path):
    total = 3000
    due = now_ms() + 12_000
    with start(own.bootstrap_servers, tmp_path) as (program, port):
        lines = b"".join(
            json.dumps({"message": str(n), "topic": topic, "deliver_at": due + n, "id": f"id-{n}"}).encode() + b"\n"
            for n in range(total)
        )
        status, summary = post(port, "/send", lines, "application/x-ndjson", prefer="return=minimal")
        assert (status, summary["accepted"]) == (202, total)
        eventually(lambda: now_ms() > due + total // 2, why="the clock stands still")
        program.stop(signal.SIGKILL)
    with start(own.bootstrap_servers, tmp_path) as (program, _):
        landed(own, topic, total)
        everything = {b"%d" % number for number in range(total)}
        eventually(lambda: {m.value() for m in read_all(own.bootstrap_servers, topic)} == everything, within_s=WITHIN_S)
        for message in read_all(own.bootstrap_servers, topic):
            assert message.timestamp()[1] >= due + int(message.value())
            assert dict(message.headers())["recado-id"] == b"id-" + message.value()
        assert program.stop() == 0


def test_two_gateways_share_the_work_and_one_may_leave(own, topic, tmp_path):
    with ExitStack() as stack:
        first, port = stack.enter_context(start(own.bootstrap_servers, tmp_path))
        _, other = stack.enter_context(start(own.bootstrap_servers, tmp_path))
        due = now_ms() + 6000
        for number in range(200):
            gate = port if number % 2 else other
            assert send(gate, {"message": str(number), "topic": topic, "deliver_at": due + number * 20})[0] == 202
        eventually(lambda: now_ms() > due + 1500)
        assert first.stop() == 0
        found = landed(own, topic, 200)
    assert sorted(int(message.value()) for message in found) == list(range(200))  # a clean leave makes no duplicates
    assert all(message.timestamp()[1] >= due + 20 * int(message.value()) for message in found)


def test_a_target_that_is_gone_keeps_its_record_and_holds_up_no_other(own, topic, tmp_path):
    gone = make_topic(own.bootstrap_servers, 1, {})
    admin = AdminClient({"bootstrap.servers": own.bootstrap_servers})
    with start(own.bootstrap_servers, tmp_path) as (program, port):
        assert send(port, {"message": "kept", "topic": gone, "delay": "3s"})[0] == 202
        assert send(port, {"message": "goes on", "topic": topic, "delay": "4s"})[0] == 202
        assert send(port, {"message": "no", "topic": "nowhere", "delay": "3s"})[0] == 404
        assert send(port, {"message": "no", "topic": "recado.delay.2s"})[0] == 403
        admin.delete_topics([gone])[gone].result(30)
        assert [message.value() for message in landed(own, topic, 1)] == [b"goes on"]
        eventually(lambda: "delayed record cannot land" in program.log, within_s=WITHIN_S, why=lambda: program.log)
        admin.create_topics([NewTopic(gone, 1, 1)])[gone].result(30)
        assert [message.value() for message in landed(own, gone, 1)] == [b"kept"]
        assert program.stop() == 0


def test_records_that_fall_due_while_the_broker_is_dead_land_when_it_is_back(tmp_path):
    with start_kafka(tmp_path / "kafka") as fragile:
        topic = make_topic(fragile.bootstrap_servers, 1, {})
        with start(fragile.bootstrap_servers, tmp_path) as (program, port):
            for number in range(50):
                assert (
                    send(port, {"message": str(number), "topic": topic, "delay": f"{3000 + 20 * number}ms"})[0] == 202
                )
            fragile.kill(1)
            time.sleep(6)  # they fall due meanwhile
            fragile.start()
            found = landed(fragile, topic, 50)
            # Overdue ones come as their partitions are read again.
            assert sorted({int(message.value()) for message in found}) == list(range(50))
            assert send(port, {"message": "after", "topic": topic, "delay": "1s"})[0] == 202
            assert landed(fragile, topic, 51)[-1].value() == b"after"
            assert program.stop() == 0


PLAIN_WSGI = """
import sys, time
from recado.gateway.api import create_app
client = create_app().test_client()
answer = client.post(f"/send/{sys.argv[1]}?delay=1s", data=b"x")
assert answer.status_code == 202, answer.data
time.sleep(float(sys.argv[2]))
"""


def test_any_wsgi_server_moves_delayed_records_and_leaves_in_order_when_it_just_ends(own, topic, tmp_path):
    with running(["-c", PLAIN_WSGI, topic, "8"], {"RECADO_BOOTSTRAP_SERVERS": own.bootstrap_servers}, tmp_path) as one:
        assert [message.value() for message in landed(own, topic, 1)] == [b"x"]
        assert one.process.wait(30) == 0, one.log
        assert "delay line ended" in one.log
        assert "Traceback" not in one.log


def test_delay_topics_keep_what_has_not_moved_on(own, topic, tmp_path: Path):
    with start(own.bootstrap_servers, tmp_path) as (_, port):
        assert send(port, {"message": "x", "topic": topic, "delay": "1ms"})[0] == 202
        admin = AdminClient({"bootstrap.servers": own.bootstrap_servers})
        resource = ConfigResource(ConfigResource.Type.TOPIC, "recado.delay.2s")
        config = admin.describe_configs([resource])[resource].result(30)
        assert config["retention.ms"].value == config["retention.bytes"].value == "-1"
