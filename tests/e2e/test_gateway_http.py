"""The gateway as a program under clients that misbehave, load, signals and outages; an independent reader judges."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from recado.embedded import EmbeddedKafka
from recado.errors import EmbeddedKafkaError
from tests.conftest import make_topic
from tests.kafka_fixture import start_kafka
from tests.programs import ROOT, Program, eventually, free_port, gateway, read_all, running, status

start = contextmanager(gateway)

#: What a machine that is busy with Kafka, gateway and clients at once may add to an answer that is due.
SLACK_S = 0.5


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, timeout_s: float = 30) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("POST", path, body, named)
        response = self._connection.getresponse()
        return response.status, response.read()

    def send(self, payload: Any, **headers: str) -> tuple[int, Any]:
        code, body = self.post("/send", json.dumps(payload).encode(), **{"content_type": "application/json", **headers})
        return code, json.loads(body)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send(port: int, payload: Any, **headers: str) -> tuple[int, Any]:
    with Client(port) as client:
        return client.send(payload, **headers)


def stored(bootstrap: str, topic: str) -> dict[tuple[int, int], tuple[bytes | None, dict[str, bytes]]]:
    return {
        (message.partition(), message.offset()): (message.value(), dict(message.headers() or ()))
        for message in read_all(bootstrap, topic)
    }


@pytest.fixture
def server(kafka, topic, tmp_path: Path) -> Iterator[tuple[Program, int, str, str]]:
    name = topic(partitions=3)
    with start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=name) as (program, port):
        yield program, port, name, kafka.bootstrap_servers
        assert "Traceback" not in program.log


# Uploads that break off


def dropped(port: int, data: bytes, how: str) -> bytes:
    """Send, then go away: by closing this half, closing all of it, or a reset. Returns what was answered, if it was."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        connection.sendall(data)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        if how == "close":
            return b""
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer
    finally:
        connection.close()


def test_no_upload_that_breaks_off_is_stored_whatever_its_kind(server):
    program, port, topic, bootstrap = server
    bodies = {
        f"/send/{topic}": ("text/plain", b"cut-raw"),
        "/send": ("application/json", b'{"message":"cut-json"}'),
        "/send?": ("application/x-ndjson", b'{"message":"cut-line"}\n' * 2),
    }
    for path, (media_type, body) in bodies.items():
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n".encode()
        chunk = b"%x\r\n%s\r\n" % (len(body), body)
        uploads = [
            head + b"Content-Length: %d\r\n\r\n" % (len(body) + 1) + body,
            head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1],
            head + b"Content-Length: 5\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk,
            head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk[:-4],
            head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"xyz\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n" + b"-1\r\n" + body,
            head + b"Transfer-Encoding: chunked\r\n\r\n" + b"fffffffffffffffff\r\n" + body,
        ]
        for upload in uploads:
            answer = dropped(port, upload, "half")
            assert answer.startswith(b"HTTP/1.1 400 "), (upload, answer)
            dropped(port, upload, "close")
            dropped(port, upload, "reset")
    assert send(port, {"message": "whole"})[0] == 200
    assert [value for value, _ in stored(bootstrap, topic).values()] == [b"whole"]
    assert program.process.poll() is None


def test_a_body_that_is_refused_unread_is_not_taken_for_the_next_request(server):
    _, port, topic, bootstrap = server
    inner = f"POST /send/{topic} HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsmuggled".encode()
    for headers in (
        b"Content-Length: 99999999\r\n",
        b"Content-Length: %d\r\nContent-Encoding: br\r\n" % len(inner),
        b"Content-Length: %d\r\nIdempotency-Key: k k\r\n" % len(inner),
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 4\r\nContent-Length: %d\r\n" % len(inner),
    ):
        answer = dropped(
            port, f"POST /send/{topic} HTTP/1.1\r\nHost: a\r\n".encode() + headers + b"\r\n" + inner, "half"
        )
        assert answer.count(b"HTTP/1.1 ") <= 1, (headers, answer)
        assert b" 200 " not in answer, (headers, answer)
    assert stored(bootstrap, topic) == {}


def test_a_header_with_an_underscore_is_not_the_one_with_a_dash(server):
    _, port, topic, _ = server
    code, _ = send(port, {"message": 1}, Idempotency_Key="k k")
    assert code == 422  # the helper writes a dash
    with Client(port) as client:
        client._connection.request("POST", f"/send/{topic}", b"x", {"Idempotency_Key": "k k", "Content_Encoding": "br"})
        response = client._connection.getresponse()
        assert (response.status, response.read()[:20]) == (200, b'{"status":"delivered')


# Logs


def test_nothing_that_a_client_sends_forges_a_line_of_the_log(server):
    program, port, topic, _ = server
    for target in (
        f"/send/{topic}%0d%0aforged-1",
        "/%0d%0aforged-2%1b%5b31m",
        f"/send/{topic}?key=%0d%0aforged-3%1b%5b2J",
        "/send?x=%0aforged-4",
        "/health/live?%0d%0aforged-5",
    ):
        for method in ("GET", "POST", "BREW"):
            dropped(port, f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode(), "half")
    dropped(port, b"\x1b[31mforged-6\r\nforged-7\r\n\r\n", "half")
    dropped(
        port,
        f"POST /send/{topic} HTTP/1.1\r\nHost: a\r\nX: \x1b[31mforged-8\r\nContent-Length: 0\r\n\r\n".encode(),
        "half",
    )
    assert send(port, {"message": 1})[0] == 200
    assert not [line for line in program.log.splitlines() if line.strip().startswith("forged")]
    assert "\x1b" not in program.log


# Silent and slow clients


def test_silent_and_half_silent_clients_stop_nobody(server):
    _, port, topic, _ = server
    beginnings = [
        b"",
        b"POST",
        b"POST /send HTTP/1.1\r\nHost: a\r\n",
        f"POST /send/{topic} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab".encode(),
        f"POST /send/{topic} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab".encode(),
        b"POST /flush?timeout=x",
    ]
    connections = []
    try:
        for number in range(150):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connection.sendall(beginnings[number % len(beginnings)])
            connections.append(connection)
        for path in ("/health/live", "/health/ready", "/metrics"):
            began = time.monotonic()
            assert status(f"http://127.0.0.1:{port}{path}") == 200
            assert time.monotonic() - began < 1 + SLACK_S
        began = time.monotonic()
        assert send(port, {"message": 1})[0] == 200
        assert time.monotonic() - began < 1 + SLACK_S
    finally:
        for connection in connections:
            connection.close()


# Load


def mixed(client: Client, topic: str, name: str, kind: int) -> list[tuple[dict[str, Any], bytes | None]]:
    """One request of some form; what was answered with 200, and the value that must lie there."""
    if kind == 0:
        code, answer = client.send({"message": {"n": name}, "key": name, "id": f"own-{name}"})
        assert code == 200
        return [(answer, json.dumps({"n": name}, separators=(",", ":")).encode())]
    if kind == 1:
        code, body = client.post(f"/send/{topic}?key={name}", name.encode(), content_type="text/plain")
        assert code == 200
        return [(json.loads(body), name.encode())]
    if kind == 2:
        code, answers = client.send([{"message": f"{name}-{n}", "partition": n} for n in range(3)])
        assert code == 200
        return [(answer, f"{name}-{n}".encode()) for n, answer in enumerate(answers)]
    if kind == 3:
        lines = b"".join(b'{"message":"%s-%d"}\n' % (name.encode(), n) for n in range(5))
        code, body = client.post("/send", lines, content_type="application/x-ndjson")
        assert code == 200
        return [(json.loads(line), f"{name}-{n}".encode()) for n, line in enumerate(body.splitlines())]
    if kind == 4:
        code, answer = client.send({"message": None, "key": name})
        assert code == 200
        return [(answer, None)]
    code, answer = client.send({"message": name, "partition": 7})
    assert (code, answer["field"]) == (422, "partition")
    return []


def test_64_clients_with_200_mixed_requests_each_are_all_told_the_truth(server):
    _, port, topic, bootstrap = server

    def run(number: int) -> list[tuple[dict[str, Any], bytes | None]]:
        with Client(port) as client:
            return [
                told for count in range(200) for told in mixed(client, topic, f"{number}-{count}", (number + count) % 6)
            ]

    with ThreadPoolExecutor(64) as pool:
        answers = [told for client in pool.map(run, range(64)) for told in client]
    there = stored(bootstrap, topic)
    for answer, value in answers:
        found_value, headers = there[answer["partition"], answer["offset"]]
        assert (answer["topic"], found_value, headers["recado-id"]) == (topic, value, answer["id"].encode())
    assert len({answer["id"] for answer, _ in answers}) == len(answers) == len(there)
    with Client(port) as client:
        code, body = client.post("/flush", b"")
        assert (code, json.loads(body)) == (200, {"status": "flushed", "delivered": len(answers), "pending": 0})


# Ends


class Load:
    """Clients on keep-alive connections that send without a pause until the server lets go of them."""

    def __init__(self, port: int, clients: int = 16) -> None:
        self.answers: list[tuple[int, dict[str, Any], str]] = []
        self.seconds: list[float] = []
        self._port = port
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        refused = 0
        count = 0
        while refused < 5 and not self._stopped.is_set():
            try:
                with Client(self._port, 30) as client:
                    while not self._stopped.is_set():
                        count += 1
                        value = f"load-{number}-{count}"
                        began = time.monotonic()
                        code, answer = client.send({"message": value, "key": str(number)})
                        self.seconds.append(time.monotonic() - began)
                        self.answers.append((code, answer, value))
                        refused = 0
            except (OSError, http.client.HTTPException):
                refused += 1

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)


def judge(answers: list[tuple[int, dict[str, Any], str]], bootstrap: str, topic: str) -> None:
    """Every 200 lies where it was said to, and nothing that was refused lies anywhere."""
    there = stored(bootstrap, topic)
    values = Counter(value for value, _ in there.values())
    for code, answer, value in answers:
        if code == 200:
            found_value, headers = there[answer["partition"], answer["offset"]]
            assert (found_value, headers["recado-id"]) == (value.encode(), answer["id"].encode())
        assert values[value.encode()] <= 1, f"{value} is there more than once"
        if code not in (200, 504):
            assert values[value.encode()] == 0, f"{value} was answered {code} and is there"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_unending_load_ends_it_soon_with_0_and_every_200_is_there(server, number):
    program, port, topic, bootstrap = server
    load = Load(port)
    try:
        eventually(lambda: len(load.answers) > 500)
        began = time.monotonic()
        code = program.stop(number, within_s=40)
        took = time.monotonic() - began
    finally:
        load.stop()
    judge(load.answers, bootstrap, topic)
    assert {answered for answered, _, _ in load.answers} <= {200, 503}
    assert code == 0, program.log
    assert took < 8, f"took {took:.1f} s, though no request takes one: new ones were taken while draining"


def test_an_upload_that_never_ends_holds_the_end_up_no_longer_than_the_drain(kafka, topic, tmp_path):
    name = topic()
    with (
        start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=name, RECADO_DRAIN_S="2") as (program, port),
        socket.create_connection(("127.0.0.1", port)) as endless,
    ):
        endless.sendall(f"POST /send/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab".encode())
        assert send(port, {"message": "done"})[0] == 200
        began = time.monotonic()
        assert program.stop(within_s=15) == 0
        assert time.monotonic() - began < 2 + 3
    assert [value for value, _ in stored(kafka.bootstrap_servers, name).values()] == [b"done"]


def test_a_taken_port_ends_it_with_2_and_one_clear_line(server, tmp_path):
    _, port, _, bootstrap = server
    environment = {"RECADO_BOOTSTRAP_SERVERS": bootstrap, "RECADO_PORT": str(port)}
    with running([str(ROOT / "app.py")], environment, tmp_path) as second:
        assert second.process.wait(30) == 2
        lines = [line for line in second.log.splitlines() if line.strip()]
        assert len(lines) == 1, second.log
        assert str(port) in lines[0]
        assert "RECADO_PORT" in lines[0]
    assert send(port, {"message": 1})[0] == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECADO_PORT", "x"),
        ("RECADO_PORT", "70000"),
        ("RECADO_WAIT_S", "0"),
        ("RECADO_PROT", "1"),
        ("RECADO_HOST", "192.0.2.1"),
    ],
)
def test_a_wrong_setting_ends_it_with_2_and_its_name(tmp_path, name, value):
    environment = {"RECADO_BOOTSTRAP_SERVERS": "127.0.0.1:1", "RECADO_PORT": str(free_port()), name: value}
    with running([str(ROOT / "app.py")], environment, tmp_path) as program:
        assert program.process.wait(30) == 2
        assert name in program.log
        assert "Traceback" not in program.log


# Outages

WAIT_S = 1


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with start_kafka(tmp_path_factory.mktemp("fragile")) as kafka:
        yield kafka


@pytest.fixture
def fragile(own_kafka: EmbeddedKafka) -> Iterator[EmbeddedKafka]:
    """A broker to pause, kill and start again; it runs after every test, however that ended."""
    try:
        yield own_kafka
    finally:
        with suppress(EmbeddedKafkaError):  # it does not run: then it need not go on
            own_kafka.resume(1)
        own_kafka.start()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


class Health:
    """Asks /health/live all the time."""

    def __init__(self, port: int) -> None:
        self.slowest_s = 0.0
        self.statuses: set[int] = set()
        self._url = f"http://127.0.0.1:{port}/health/live"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            code, took = timed(lambda: status(self._url))
            self.statuses.add(code)
            self.slowest_s = max(self.slowest_s, took)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(10)


def test_a_broker_that_hangs_then_dies_under_load_and_comes_back(fragile, tmp_path):
    topic = make_topic(fragile.bootstrap_servers, 2, {})
    settings = {"RECADO_TOPIC": topic, "RECADO_WAIT_S": str(WAIT_S), "RECADO_SPOOL": "off"}
    with start(fragile.bootstrap_servers, tmp_path, **settings) as (program, port):
        load, health = Load(port, 4), Health(port)
        ready = f"http://127.0.0.1:{port}/health/ready"
        try:
            for out, back in ((fragile.pause, fragile.resume), (fragile.kill, lambda broker: fragile.start())):
                before = len(load.answers)
                eventually(lambda before=before: len(load.answers) > before + 50)
                out(1)
                eventually(lambda: status(ready) == 503, within_s=20, why="ready though no broker answers")
                eventually(lambda: load.answers[-1][0] == 503, within_s=10)
                assert send(port, {"message": 1, "topic": "never-seen"})[1]["code"] == "kafka-unreachable"
                back(1)
                eventually(lambda: load.answers[-1][0] == 200, within_s=40, why="no recovery without a restart")
                eventually(lambda: status(ready) == 200, within_s=10)
        finally:
            load.stop()
            health.stop()
        with Client(port) as client:
            code, body = client.post("/flush?timeout=30", b"")
            assert (code, json.loads(body)["pending"]) == (200, 0)
        assert program.stop(within_s=40) == 0
        assert "Traceback" not in program.log
    codes = Counter(code for code, _, _ in load.answers)
    assert set(codes) == {200, 503, 504}, codes
    assert max(load.seconds) <= WAIT_S + 1 + SLACK_S
    assert (health.statuses, health.slowest_s < 0.5 + SLACK_S) == ({200}, True), health.slowest_s
    assert all(answer["status"] == "unknown" for code, answer, _ in load.answers if code == 504)
    judge(load.answers, fragile.bootstrap_servers, topic)
    unknown = {value.encode() for code, _, value in load.answers if code == 504}
    there = {value for value, _ in stored(fragile.bootstrap_servers, topic).values()}
    assert unknown <= there, "flushed with nothing pending, so what was unknown must be there by now"


def test_a_gateway_that_starts_before_its_kafka_says_so_and_needs_no_restart(fragile, tmp_path):
    topic = make_topic(fragile.bootstrap_servers, 1, {})
    fragile.kill(1)
    port = free_port()
    environment = {
        "RECADO_BOOTSTRAP_SERVERS": fragile.bootstrap_servers, "RECADO_PORT": str(port), "RECADO_TOPIC": topic,
        "RECADO_WAIT_S": str(WAIT_S), "RECADO_SPOOL": "off",
    }  # fmt: skip
    with running([str(ROOT / "app.py")], environment, tmp_path) as program:
        eventually(lambda: status(f"http://127.0.0.1:{port}/health/live") == 200, why=lambda: program.log)
        assert status(f"http://127.0.0.1:{port}/health/ready") == 503
        code, answer = send(port, {"message": "early"})
        assert (code, answer["code"]) == (503, "kafka-unreachable")
        fragile.start()
        eventually(lambda: status(f"http://127.0.0.1:{port}/health/ready") == 200, within_s=30)
        assert send(port, {"message": "late"})[0] == 200
        assert program.stop(within_s=40) == 0
        assert "Traceback" not in program.log
    assert [value for value, _ in stored(fragile.bootstrap_servers, topic).values()] == [b"late"]


def test_without_a_kafka_from_the_start_answers_come_in_time_all_the_same(tmp_path):
    port = free_port()
    environment = {
        "RECADO_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "RECADO_PORT": str(port),
        "RECADO_WAIT_S": "1",
    }
    with running([str(ROOT / "app.py")], environment, tmp_path) as program:
        eventually(lambda: status(f"http://127.0.0.1:{port}/health/live") == 200, why=lambda: program.log)
        for _ in range(4):
            (code, _), took = timed(lambda: send(port, {"message": "x"}, prefer="wait=0"))
            assert code == 503
            assert took <= 0 + 1 + SLACK_S


def test_the_end_with_records_unconfirmed_is_3_and_says_how_many(fragile, tmp_path):
    topic = make_topic(fragile.bootstrap_servers, 1, {})
    settings = {"RECADO_TOPIC": topic, "RECADO_WAIT_S": str(WAIT_S), "RECADO_DRAIN_S": "3", "RECADO_SPOOL": "off"}
    with start(fragile.bootstrap_servers, tmp_path, **settings) as (program, port):
        assert send(port, {"message": "before"})[0] == 200
        fragile.pause(1)
        try:
            assert send(port, {"message": "unknown"})[0] == 504
            code, took = timed(lambda: program.stop(within_s=20))
        finally:
            fragile.resume(1)
        assert (code, took < 3 + 3) == (3, True), (code, took, program.log)
        assert "records=1" in program.log or '"records": 1' in program.log


# As people write it


def test_the_curl_commands_of_the_readme_work(server):
    _, port, topic, bootstrap = server
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl on this machine")

    def run(*arguments: str, text: bytes = b"") -> tuple[int, str]:
        command = [curl, "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, timeout=30, check=True)
        body, _, code = done.stdout.decode().rpartition("\n")
        return int(code), body

    at = f"http://127.0.0.1:{port}"
    json_type = ["-H", "Content-Type: application/json"]
    code, body = run("-X", "POST", f"{at}/send", *json_type, "-d", '{"message": "Hola Kafka"}')
    assert (code, json.loads(body)["status"]) == (200, "delivered")
    assert run("-X", "POST", f"{at}/flush")[0] == 200
    assert (
        run(f"{at}/send/{topic}?key=k", "-H", "Content-Type: image/png", "--data-binary", "@-", text=b"\x89PNG\0")[0]
        == 200
    )
    lines = b'{"message":"one"}\n{"message":"two"}\n'
    code, body = run(f"{at}/send", "-H", "Content-Type: application/x-ndjson", "--data-binary", "@-", text=lines)
    assert (code, body.count("delivered")) == (200, 2)
    # curl -T - sends chunks, and asks with Expect: 100-continue before a large body.
    large = b'{"message":"' + b"x" * 1000 + b'"}\n'
    code, body = run("-X", "POST", "-T", "-", f"{at}/send", "-H", "Content-Type: application/x-ndjson",
                     "-H", "Prefer: return=minimal", text=large * 3000)  # fmt: skip
    assert (code, json.loads(body)["delivered"]) == (200, 3000)
    code, body = run("-d", "x", f"{at}/send")
    assert (code, "/send/TOPIC" in body) == (415, True)
    code, body = run(*json_type, "-d", '{"message": 1, "topic": "nope"}', f"{at}/send")
    assert (code, "recado kafka topics --create --topic nope" in body) == (404, True)
    values = [value for value, _ in stored(bootstrap, topic).values()]
    assert {b"Hola Kafka", b"\x89PNG\0", b"one", b"two"} <= set(values)
    assert len(values) == 4 + 3000
