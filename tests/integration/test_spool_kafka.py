"""A broker that hangs, a gateway that is killed, on a real Kafka: an independent reader finds all that was accepted."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from contextlib import contextmanager

from tests.conftest import make_topic
from tests.kafka_fixture import start_kafka
from tests.programs import eventually, gateway, read_all

start = contextmanager(gateway)


def post(port: int, path: str, payload: object = None, **headers: str) -> tuple[int, dict]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(payload).encode(),
        {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split(" ")[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def test_a_hanging_broker_and_a_killed_gateway_lose_nothing_and_keep_the_order(tmp_path):
    with start_kafka(tmp_path / "kafka") as kafka:
        topic = make_topic(kafka.bootstrap_servers, 3, {})
        accepted: list[tuple[str, str]] = []

        def send(port: int, number: int) -> int:
            key = f"k{number % 5}"
            body = {"message": f"{number}", "key": key, "id": f"id-{number}"}
            status, _ = post(port, "/send", body, Prefer="wait=1")
            assert status in (200, 202), status
            accepted.append((key, f"id-{number}"))
            return status

        with start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=topic) as (program, port):
            assert {send(port, number) for number in range(20)} == {200}
            kafka.pause(1)
            began = time.monotonic()
            assert send(port, 20) == 202  # it waited for its second
            assert time.monotonic() - began < 3
            ready = f"http://127.0.0.1:{port}/health/ready"
            eventually(lambda: b"kafka-unreachable" in urllib.request.urlopen(ready, timeout=5).read())
            began = time.monotonic()
            assert {send(port, number) for number in range(21, 121)} == {202}
            assert time.monotonic() - began < 10  # a hundred, none of which waited for Kafka
            program.process.send_signal(signal.SIGKILL)
            program.process.wait(10)
        with start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=topic) as (program, port):
            assert send(port, 121) == 202  # Kafka still hangs; the topic is remembered
            kafka.resume(1)
            eventually(lambda: post(port, "/flush?timeout=20")[0] == 200, within_s=60, why=lambda: program.log)
            send(port, 122)
            assert program.stop() == 0, program.log
        found: dict[str, list[str]] = defaultdict(list)
        for message in read_all(kafka.bootstrap_servers, topic):
            found[message.key().decode()].append(dict(message.headers())["recado-id"].decode())
        for key in found:
            first_of_each = list(dict.fromkeys(found[key]))
            assert first_of_each == [id_ for sent_key, id_ in accepted if sent_key == key]
        copies = sum(map(len, found.values())) - len(accepted)
        assert copies <= 1  # the one that Kafka had been given before the kill


def test_a_gateway_that_stops_forwards_what_it_has_written_down_while_kafka_answers(kafka, topic, tmp_path):
    name, records = topic(3), 20_000
    with start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=name) as (program, port):
        for _ in range(2):
            lines = b"\n".join(b'{"message":"%d"}' % number for number in range(records // 2))
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/send",
                lines,
                {"Content-Type": "application/x-ndjson", "Prefer": "respond-async, return=minimal"},
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                assert response.status == 202
        assert program.stop() == 0, program.log
    assert len(read_all(kafka.bootstrap_servers, name)) == records


def test_a_drain_that_ends_before_a_requests_wait_answers_it_and_remembers_its_key(tmp_path):
    with start_kafka(tmp_path / "kafka") as kafka:
        topic = make_topic(kafka.bootstrap_servers, 1, {})
        settings = {"RECADO_TOPIC": topic, "RECADO_DRAIN_S": "4"}
        told: list[tuple[int, dict]] = []

        def send(port: int, **headers: str) -> None:
            told.append(post(port, "/send", {"message": "x"}, **headers))

        with start(kafka.bootstrap_servers, tmp_path, **settings) as (program, port):
            assert post(port, "/send", {"message": "first"})[0] == 200
            kafka.pause(1)
            headers = {"Prefer": "wait=60", "Idempotency-Key": "once"}
            waiting = [threading.Thread(target=send, args=(port,), kwargs=h) for h in (headers, {"Prefer": "wait=60"})]
            for thread in waiting:
                thread.start()
            eventually(lambda: metric(port, "recado_gateway_in_flight_records") == 2)
            assert program.stop() == 3, program.log
            for thread in waiting:
                thread.join()
            assert [status for status, _ in told] == [202, 202], told
            kafka.resume(1)
        with start(kafka.bootstrap_servers, tmp_path, **settings) as (program, port):
            status, again = post(port, "/send", {"message": "x"}, **headers)
            assert (status, again["id"]) == (202, "once")
            assert program.stop() == 0, program.log
        # The paused broker had both already, so each may be there twice, with its id.
        ids = {dict(message.headers())["recado-id"] for message in read_all(kafka.bootstrap_servers, topic)}
        assert len(ids) == 3
        assert b"once" in ids


def test_a_second_signal_hurries_though_nothing_but_kafka_is_waited_for(tmp_path):
    with start_kafka(tmp_path / "kafka") as kafka:
        topic = make_topic(kafka.bootstrap_servers, 1, {})
        with start(kafka.bootstrap_servers, tmp_path, RECADO_TOPIC=topic) as (program, port):
            assert post(port, "/send", {"message": "first"})[0] == 200
            kafka.pause(1)
            eventually(lambda: post(port, "/send", {"message": "x"}, Prefer="wait=0")[0] == 202)
            program.process.send_signal(signal.SIGTERM)
            eventually(lambda: '"draining"' in program.log)
            time.sleep(0.3)
            began = time.monotonic()
            assert program.stop() == 3, program.log
            assert time.monotonic() - began < 8  # of twenty
