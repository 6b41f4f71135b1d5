"""A short torture, as a user runs it: gateway and broker killed, broker stopped, nothing lost, nobody left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kafka_fixture import kafka_version
from tests.programs import eventually

GATEWAY = [sys.executable, "-m", "recado", "torture", "gateway"]


def environment(folder: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
    return {**clean, "TMPDIR": str(folder), "RECADO_KAFKA_VERSION": kafka_version()}


def processes_of(folder: Path) -> list[str]:
    """Command lines and environments that name the folder: everything that a run starts does."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder).encode() in text and state != "Z":
            found.append(process.name)
    return found


def test_nothing_that_was_answered_is_lost(tmp_path):
    arguments = ["--seconds", "24", "--seed", "1", "--rate", "80", "--senders", "6", "--json"]
    done = subprocess.run(
        [*GATEWAY, *arguments, "--faults", "kill-gateway,kill-broker,stop-broker"],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "pass"
    assert {fault["kind"] for fault in report["plan"]["faults"]} == {"kill-gateway", "kill-broker", "stop-broker"}
    assert all(check["looked_at"] for check in report["checks"] if check["name"] != "refused but there")
    assert report["figures"]["delivered"] > 200
    if report["spool"]:
        assert report["figures"]["accepted"] > 0
    assert Path(report["history"]).exists()
    assert not (Path(report["folder"]) / "kafka").exists(), "what was good is not kept"
    assert processes_of(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_behind(tmp_path, number):
    log = tmp_path / "log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [*GATEWAY, "--seconds", "60", "--faults", "stop-gateway"],
            cwd=tmp_path, env=environment(tmp_path), stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        eventually(lambda: list(tmp_path.glob("*/history.jsonl")) and _size(tmp_path) > 2000, why=log.read_text)
        time.sleep(0.5)
        running.send_signal(number)
        assert running.wait(40) == 130
    finally:
        if running.poll() is None:
            running.kill()
            running.wait(10)
    eventually(lambda: processes_of(tmp_path) == [], why=lambda: str(processes_of(tmp_path)))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert "what it wrote so far is in" in log.read_text()


def _size(folder: Path) -> int:
    return next(folder.glob("*/history.jsonl")).stat().st_size
