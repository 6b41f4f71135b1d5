"""The gateway as a program, over real sockets, on a real Kafka; an independent reader judges."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kafka_fixture import start_kafka
from tests.programs import ROOT, eventually, gateway, read_all, running, status

start = contextmanager(gateway)


def post(port: int, path: str, body: bytes, timeout: float = 30, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def send(port: int, payload: object, **headers: str) -> tuple[int, dict]:
    code, body = post(port, "/send", json.dumps(payload).encode(), content_type="application/json", **headers)
    return code, json.loads(body)


def raw(port: int, data: bytes, *, half_close: bool = True) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536)


@pytest.fixture
def server(kafka, topic, tmp_path: Path):
    name = topic(partitions=3)
    with start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=name) as (program, port):
        yield program, port, name


def test_what_is_answered_is_what_lies_in_kafka(kafka, server):
    _, port, topic = server
    code, answer = send(port, {"message": "Hola Kafka", "key": "k", "headers": {"a": "b"}})
    assert code == 200
    code, flushed = post(port, "/flush", b"")
    assert (code, json.loads(flushed)) == (200, {"status": "flushed", "delivered": 1, "pending": 0})
    (message,) = read_all(kafka.bootstrap_servers, topic)
    assert (message.partition(), message.offset()) == (answer["partition"], answer["offset"])
    assert (message.value(), message.key()) == (b"Hola Kafka", b"k")
    assert dict(message.headers()) == {"recado-id": answer["id"].encode(), "a": b"b"}
    assert message.timestamp()[1] == answer["timestamp"]


def test_cut_uploads_are_400_and_nothing_is_stored(kafka, server):
    program, port, topic = server
    head = f"POST /send/{topic} HTTP/1.1\r\nHost: a\r\n".encode()
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    for data in (
        head + b"Content-Length: 10\r\n\r\nabc",
        chunked + b"5\r\nab",
        chunked + b"2\r\nab\r\n",
        chunked + b"2\r\nab\r\nzz\r\n",
    ):
        answer = raw(port, data)
        assert answer.startswith(b"HTTP/1.1 400"), (data, answer)
        assert b"body-incomplete" in answer
    line = b"POST /send HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
    assert b"400" in raw(port, line + b'Transfer-Encoding: chunked\r\n\r\n10\r\n{"message":"a"}\n\r\n')[:20]
    with socket.create_connection(("127.0.0.1", port)) as vanishing:
        vanishing.sendall(head + b"Content-Length: 10\r\n\r\nabc")
    assert b" 400 " in raw(port, head + b"Host: b\r\nContent-Length: 2\r\n\r\nab", half_close=False)[:20]
    assert send(port, {"message": "whole"})[0] == 200
    assert [message.value() for message in read_all(kafka.bootstrap_servers, topic)] == [b"whole"]
    assert "Traceback" not in program.log


def test_silent_connections_do_not_stop_answers(server):
    _, port, _ = server
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    try:
        assert send(port, {"message": 1})[0] == 200
        assert status(f"http://127.0.0.1:{port}/health/live") == 200
    finally:
        for connection in silent:
            connection.close()


def test_a_taken_port_is_said_plainly(kafka, server, tmp_path):
    _, port, _ = server
    environment = {"RECADO_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "RECADO_PORT": str(port)}
    with running([str(ROOT / "app.py")], environment, tmp_path) as second:
        assert second.process.wait(20) == 2
        assert f"Port {port} on 127.0.0.1 is taken" in second.log
        assert "Traceback" not in second.log


def test_every_200_under_parallel_load_is_true_and_sigterm_loses_none(kafka, server):
    program, port, topic = server
    answered: list[tuple[dict, str]] = []
    lock = threading.Lock()
    enough = threading.Event()

    def client(number: int) -> None:
        for count in range(10_000):
            value = f"{number}-{count}"
            try:
                code, answer = send(port, {"message": value, "key": str(number)})
            except (OSError, http.client.HTTPException):
                return  # the server is gone: nothing was answered
            if code != 200:
                return
            with lock:
                answered.append((answer, value))
                if len(answered) > 1500:
                    enough.set()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(24)]
    for thread in clients:
        thread.start()
    assert enough.wait(60)
    assert program.stop(signal.SIGTERM) == 0
    for thread in clients:
        thread.join(30)
    stored = {(m.partition(), m.offset()): m for m in read_all(kafka.bootstrap_servers, topic)}
    for answer, value in answered:
        message = stored[answer["partition"], answer["offset"]]
        assert message.value() == value.encode()
        assert dict(message.headers())["recado-id"] == answer["id"].encode()
    ids = [dict(m.headers())["recado-id"] for m in stored.values()]
    assert len(ids) == len(set(ids))


def test_without_a_spool_a_broker_that_hangs_or_dies_gets_true_answers_in_time_and_recovery_needs_no_restart(tmp_path):
    with start_kafka(tmp_path / "kafka") as kafka:
        from tests.conftest import make_topic

        topic = make_topic(kafka.bootstrap_servers, 1, {})
        with start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=topic, RECADO_WAIT_S="1", RECADO_SPOOL="off") as (
            _,
            port,
        ):
            assert send(port, {"message": "before"})[0] == 200
            kafka.pause(1)
            began = time.monotonic()
            code, answer = send(port, {"message": "hanging"})
            assert time.monotonic() - began <= 2.0
            assert (code, answer["status"]) == (504, "unknown")
            began = time.monotonic()
            eventually(lambda: status(f"http://127.0.0.1:{port}/health/ready") == 503)
            code, answer = send(port, {"message": "refused"})
            assert (code, answer["code"]) == (503, "kafka-unreachable")
            assert status(f"http://127.0.0.1:{port}/health/live") == 200
            kafka.resume(1)
            eventually(lambda: send(port, {"message": "after"})[0] == 200)
            kafka.kill(1)
            began = time.monotonic()
            code, answer = send(port, {"message": "killed"})
            assert time.monotonic() - began <= 2.0
            assert code in (503, 504)
            kafka.start()
            eventually(lambda: send(port, {"message": "again"})[0] == 200, within_s=60)
            assert json.loads(post(port, "/flush", b"")[1])["pending"] == 0
        values = [message.value() for message in read_all(kafka.bootstrap_servers, topic)]
        assert values.count(b"before") == values.count(b"hanging") == 1
        assert b"refused" not in values
