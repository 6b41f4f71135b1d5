"""Processes, ports, the wire and the log: what the broker is watched with."""

import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from recado.embedded import ports, process, server_log, wire
from recado.embedded.process import Process

#: For what takes milliseconds, on a machine that is very busy.
DEADLINE_S = 20.0


def eventually(condition) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def sleeper(folder: Path, *, leashed: bool = True) -> Process:
    log = folder / "log"
    return process.spawn(["/bin/sleep", "60"], log=log, folder=folder, environment={}, leashed=leashed)


@pytest.mark.parametrize("leashed", [True, False])
def test_a_process_is_known_from_birth_to_death(tmp_path, leashed):
    child = sleeper(tmp_path, leashed=leashed)
    assert child.alive()
    assert os.getsid(child.pid) == child.pid, "in its own session, where Ctrl-C does not reach it"
    assert child.send(signal.SIGTERM)
    assert child.wait(DEADLINE_S)
    assert not child.send(signal.SIGTERM)


def test_a_reused_pid_is_neither_alive_nor_signalled():
    ours = Process(os.getpid(), "another boot/1")
    assert not ours.alive()
    assert not ours.send(signal.SIGKILL)


def test_waiting_ends_at_its_deadline(tmp_path):
    child = sleeper(tmp_path)
    try:
        assert not child.wait(0)
    finally:
        child.send(signal.SIGKILL)
    assert child.wait(DEADLINE_S)


def test_a_program_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        process.spawn(["/nowhere/java"], log=tmp_path / "log", folder=tmp_path, environment={}, leashed=False)


def test_the_end_of_a_process_is_reported_with_its_code(tmp_path):
    codes: list[int] = []
    command = ["/bin/sh", "-c", "exit 7"]
    process.spawn(command, log=tmp_path / "log", folder=tmp_path, environment={}, leashed=True, at_end=codes.append)
    assert eventually(lambda: codes == [7])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
@pytest.mark.parametrize("leashed", [True, False])
def test_a_leashed_process_does_not_outlive_a_killed_parent(tmp_path, leashed):
    """The thread that asked for it ends at once, which must not end the process."""
    script = textwrap.dedent(f"""
        import threading, time
        from pathlib import Path
        from recado.embedded import process

        def start():
            folder = Path({str(tmp_path)!r})
            command = ["/bin/sleep", "60"]
            child = process.spawn(command, log=folder / "log", folder=folder, environment={{}}, leashed={leashed})
            process.save(child, folder / "pid")

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        print("ready", flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout.readline() == "ready\n"
            child = process.load(tmp_path / "pid")
            assert child is not None
            assert child.alive()
        finally:
            parent.kill()
    if leashed:
        assert child.wait(DEADLINE_S)
    else:
        assert child.alive()
        child.send(signal.SIGKILL)
        assert child.wait(DEADLINE_S)


def test_a_pid_file_is_believed_only_while_its_process_lives(tmp_path):
    path = tmp_path / "pid"
    assert process.load(path) is None
    path.write_text("{ not json")
    assert process.load(path) is None
    child = sleeper(tmp_path)
    process.save(child, path)
    assert process.load(path) == child
    child.send(signal.SIGKILL)
    assert child.wait(DEADLINE_S)
    assert process.load(path) is None


def test_a_taken_port_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_free_port_is_outside_the_ephemeral_range_and_new():
    first = ports.free_port()
    assert 15000 <= first < 32000
    assert ports.free_port({first}) != first


class Peer:
    """Answers every connection on loopback with the same bytes, then closes it."""

    def __init__(self, answer: bytes) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(self._answer)

    def close(self) -> None:
        self._thread.join(DEADLINE_S)
        self._server.close()


def framed(body: bytes) -> bytes:
    return struct.pack(">ii", len(body) + 4, 0) + body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (framed(struct.pack(">hi", 0, 0)), True),
        (framed(struct.pack(">hi", 35, 0)), False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_kafka_counts_as_an_answer(answer, expected):
    peer = Peer(answer)
    try:
        assert wire.answers(wire.Address(peer.port)) is expected
    finally:
        peer.close()


def test_a_port_where_nobody_listens_does_not_answer():
    port = ports.free_port()
    assert not wire.answers(wire.Address(port))
    assert wire.live_brokers(wire.Address(port)) == frozenset()
    assert not wire.listens(f"localhost:{port}")
    assert not wire.listens("no port")


def test_the_brokers_of_a_metadata_answer_are_read_with_and_without_a_rack():
    def broker(number: int, rack: bytes | None) -> bytes:
        end = struct.pack(">h", -1) if rack is None else struct.pack(">h", len(rack)) + rack
        return struct.pack(">ih", number, 4) + b"host" + struct.pack(">i", 9092) + end

    peer = Peer(framed(struct.pack(">i", 2) + broker(1, None) + broker(7, b"rack") + struct.pack(">ii", 1, 0)))
    try:
        assert wire.live_brokers(wire.Address(peer.port)) == {1, 7}
    finally:
        peer.close()


def test_a_failure_is_explained_by_its_alarms_without_their_traces():
    lines = ["INFO start", "ERROR bad thing", "java.lang.IllegalStateException: x", "\tat a.B.c", "INFO end"]
    assert server_log.explain(lines) == ["ERROR bad thing", "java.lang.IllegalStateException: x"]


def test_without_an_alarm_the_last_lines_are_shown():
    assert server_log.explain([f"INFO {i}" for i in range(20)] + [""]) == [f"INFO {i}" for i in range(12, 20)]


def test_the_tail_starts_where_this_start_began(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("old\nnew\n")
    assert server_log.tail(log, since_bytes=4) == ["new"]
    assert server_log.tail(tmp_path / "none") == []


def test_a_large_log_is_set_aside(tmp_path):
    log = tmp_path / "server.log"
    server_log.rotate(log)
    log.write_bytes(b"x" * 9_000_000)
    server_log.rotate(log)
    assert not log.exists()
    assert (tmp_path / "server.log.1").stat().st_size == 9_000_000
