"""What a worker says of itself: alive or stuck, and what its handlers are at."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request

import pytest

from recado import Record, Worker
from recado.kafka.memory import MemoryKafka
from recado.settings import Settings
from recado.worker.reporting import oldest, pulse
from tests.programs import eventually, free_port
from tests.twin import GROUP, member, wait_committed


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def settings(port: int) -> Settings:
    return Settings(topic="orders", group=GROUP, worker_port=port, drain_s=5.0, log_level="error")


def ask(port: int, path: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, {}


def at_work(port: int) -> list[dict]:
    return ask(port, "/health")[1].get("at_work", [])


def test_a_handler_that_lasts_is_named_with_its_record_and_where_it_is(port, settings, monkeypatch):
    monkeypatch.setattr(oldest, "LEAST_S", 0.1)
    kafka, worker, go = MemoryKafka({"orders": 1}), Worker(), threading.Event()

    def wait_for_the_bank():
        assert go.wait(20)

    @worker.handler("orders", concurrency=2)
    def charge(record: Record) -> None:
        if record.offset == 1:
            wait_for_the_bank()

    for number in range(4):
        kafka.send("orders", "x", key=b"k%d" % number)
    with member(worker, kafka, settings):
        (call,) = eventually(lambda: at_work(port))
        assert (call["topic"], call["partition"], call["offset"], call["key"]) == ("orders", 0, 1, "k1")
        assert call["handler"].endswith("charge")
        assert call["attempt"] == 1
        assert call["for_s"] >= 0.1
        assert "charge" in call["stack"][0]
        assert any("wait_for_the_bank" in line for line in call["stack"])
        status, found = ask(port, "/health")
        (partition,) = found["partitions"]
        assert status == 200
        assert (partition["position"], partition["not_done"]) == (1, 1)
        go.set()
        wait_committed(kafka, 4)
        eventually(lambda: not at_work(port))


def test_a_coroutine_that_lasts_is_named_with_where_it_waits(port, settings, monkeypatch):
    monkeypatch.setattr(oldest, "LEAST_S", 0.1)
    kafka, worker, gone = MemoryKafka({"orders": 1}), Worker(), threading.Event()

    async def wait_for_the_bank():
        while not gone.is_set():
            await asyncio.sleep(0.01)

    @worker.handler("orders")
    async def charge(record: Record) -> None:
        await wait_for_the_bank()

    kafka.send("orders", "x")
    with member(worker, kafka, settings):
        (call,) = eventually(lambda: at_work(port))
        assert any("charge" in line for line in call["stack"])
        assert any("wait_for_the_bank" in line for line in call["stack"])
        gone.set()
        wait_committed(kafka, 1)


def test_a_loop_that_is_stuck_is_not_live(port, settings, monkeypatch):
    monkeypatch.setattr(pulse, "DEATH_S", 0.3)
    kafka, worker, stuck, go = MemoryKafka({"orders": 1}), Worker(), threading.Event(), threading.Event()
    worker.handler("orders")(lambda record: None)
    with member(worker, kafka, settings) as running:
        eventually(lambda: ask(port, "/health/live")[0] == 200)
        consume = running.consumer.consume

        def hang(max_records, timeout_s):
            stuck.set()
            assert go.wait(20)
            return consume(max_records, timeout_s)

        running.consumer.consume = hang
        assert stuck.wait(20)
        _, found = eventually(lambda: (answer := ask(port, "/health/live"))[0] == 503 and answer)
        assert "has not run" in found["detail"]
        go.set()
        running.consumer.consume = consume
        eventually(lambda: ask(port, "/health/live")[0] == 200)
