"""A worker whose handlers never end, told to stop: it ends in time, with what is done committed, and nothing else."""

from __future__ import annotations

import signal
import time

import pytest

from tests.integration.test_worker_kafka import scene  # noqa: F401  # the fixture
from tests.programs import eventually, free_port, running

STUCK = {
    "sleeps": """
@worker.handler(concurrency=2)
def handle(record: Record) -> None:
    note("began", record)
    while record.offset == 3:
        time.sleep(1)
""",
    "python loop": """
@worker.handler(concurrency=2)
def handle(record: Record) -> None:
    note("began", record)
    while record.offset == 3:
        pass
""",
    "loop blocked": """
@worker.handler(concurrency=2)
async def handle(record: Record) -> None:
    note("began", record)
    if record.offset == 3:
        time.sleep(3600)
""",
    "swallows": """
@worker.handler(concurrency=2, timeout_s=0.1)
async def handle(record: Record) -> None:
    note("began", record)
    while record.offset == 3:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
""",
    "to_thread": """
@worker.handler(concurrency=2)
async def handle(record: Record) -> None:
    note("began", record)
    if record.offset == 3:
        await asyncio.to_thread(time.sleep, 3600)
""",
    "process": """
@worker.handler(concurrency=2, timeout_s=3600)
def handle(record: Record) -> None:
    note("began", record)
    while record.offset == 3:
        time.sleep(1)
""",
    "thread": """
import threading

@worker.handler(concurrency=2)
def handle(record: Record) -> None:
    note("began", record)
    if record.offset == 3:
        threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()
        time.sleep(3600)
""",
    "atexit": """
import atexit
atexit.register(time.sleep, 3600)

@worker.handler(concurrency=2)
def handle(record: Record) -> None:
    note("began", record)
    if record.offset == 3:
        time.sleep(3600)
""",
}


@pytest.mark.parametrize("how", STUCK)
def test_a_worker_with_a_stuck_handler_ends_in_time_and_commits_what_is_done(scene, topic, how):  # noqa: F811
    name = topic(partitions=1)
    scene.send(name, 4)
    with scene.worker(STUCK[how], name, RECADO_DRAIN_S="1") as program:
        eventually(lambda: len(scene.journal("began")) == 4, why=lambda: program.log)
        began = time.monotonic()
        assert program.stop(within_s=20) == 3, program.log
        assert time.monotonic() - began < 1 + 8
    assert f"{name}/0/3" in program.log
    assert scene.committed(name) == {0: 3}


@pytest.mark.parametrize("how", ["sleeps", "loop blocked", "process", "thread", "atexit"])
def test_a_second_signal_ends_it_sooner(scene, topic, how):  # noqa: F811
    name = topic(partitions=1)
    scene.send(name, 4)
    with scene.worker(STUCK[how], name, RECADO_DRAIN_S="60") as program:
        eventually(lambda: len(scene.journal("began")) == 4, why=lambda: program.log)
        program.process.send_signal(signal.SIGINT)
        eventually(lambda: "draining" in program.log)
        assert program.stop(within_s=20) == 3, program.log
    assert scene.committed(name) == {0: 3}


ENDLESS = """
import atexit, threading, time
from recado import Record, Worker
worker = Worker()
atexit.register(time.sleep, 3600)

@worker.handler()
def handle(record: Record) -> None:
    threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()
"""


def test_the_command_ends_though_a_handlers_thread_and_an_exit_hook_do_not(scene, topic):  # noqa: F811
    name = topic(partitions=1)
    scene.send(name, 1)
    (scene.folder / "endless.py").write_text(ENDLESS)
    environment = {
        "RECADO_BOOTSTRAP_SERVERS": scene.bootstrap,
        "RECADO_GROUP": scene.group,
        "RECADO_TOPIC": name,
        "RECADO_WORKER_PORT": str(free_port()),
    }
    with running(["-m", "recado", "worker", "endless.py"], environment, scene.folder) as program:
        scene.wait_committed(name, {0: 1})
        assert program.stop(within_s=20) == 0, program.log
    assert "ended now" in program.log
