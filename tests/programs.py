"""Runs recado's programs as a user does: subprocesses with an environment, ended by their pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

ROOT = Path(__file__).parent.parent

T = TypeVar("T")


def eventually(look: Callable[[], T], *, within_s: float = 30.0, why: str | Callable[[], str] = "") -> T:
    """The first true value of ``look``; AssertionError after the deadline, with ``why`` as it is then."""
    deadline = time.monotonic() + within_s
    while True:
        if value := look():
            return value
        assert time.monotonic() < deadline, (why if isinstance(why, str) else why()) or "it did not come true in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """One running program; its output goes to a file."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self.log_path = folder / f"{Path(arguments[0]).stem}-{free_port()}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], env={**clean, "PYTHONUNBUFFERED": "1", **environment}, cwd=folder,
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM, within_s: float = 40.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)


@contextmanager
def running(arguments: list[str], environment: dict[str, str], folder: Path) -> Iterator[Program]:
    program = Program(arguments, environment, folder)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait(10)


def gateway(bootstrap: str, folder: Path, **settings: str) -> Iterator[tuple[Program, int]]:
    """``python app.py``, ready to take requests; yields it and its port (use through ``contextmanager``)."""
    port = free_port()
    environment = {"RECADO_BOOTSTRAP_SERVERS": bootstrap, "RECADO_PORT": str(port), **settings}
    with running([str(ROOT / "app.py")], environment, folder) as program:
        eventually(lambda: status(f"http://127.0.0.1:{port}/health/ready") == 200, why=program.log)
        yield program, port


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """The begin and the end; a partition that was just made may have no leader for a moment."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=10)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def read_all(bootstrap: str, topic: str, **properties: str) -> list[Message]:
    """Every record of a topic, by a reader that knows nothing of recado."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "independent",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            **properties,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        left = {}
        for partition in partitions:
            low, high = watermarks(consumer, TopicPartition(topic, partition))
            if high > low:
                left[partition] = high
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        found: list[Message] = []
        deadline = time.monotonic() + 60
        while left and time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    found.append(message)
                elif message.offset() >= left.get(message.partition(), 0):  # the end, also behind transaction markers
                    left.pop(message.partition(), None)
        assert not left, f"not read to the end: {left}"
        return found
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str, partitions: int, **properties: str) -> dict[int, int]:
    """The group's committed offsets, by a reader that knows nothing of recado."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **properties})
    try:
        found = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=10)
        return {position.partition: position.offset for position in found if position.offset >= 0}
    finally:
        consumer.close()


def kill_zygote_of(pid: int) -> None:
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    os.kill(parent, signal.SIGKILL)
    eventually(lambda: not is_there(pid))


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
