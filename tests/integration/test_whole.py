"""The whole: `recado up` and the README's own commands, and the two programs against a secured cluster."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import make_topic
from tests.programs import ROOT, committed, eventually, free_port, gateway, running, status

README = (ROOT / "README.md").read_text()

#: `recado` of this environment, as `make up` puts it into .venv/bin.
RECADO = [sys.executable, "-m", "recado"]


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "-s", "-m", "20", *arguments], capture_output=True, text=True, check=True).stdout


def readme_curls() -> list[list[str]]:
    return [shlex.split(line)[1:] for line in README.splitlines() if line.startswith("curl ")]


def shell_lines(prefix: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in README.splitlines() if line.startswith(prefix)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], int]:
    """An environment of its own ports, in which nothing of the user's is seen."""
    port = free_port()
    for name in [name for name in os.environ if name.startswith("RECADO_")]:
        monkeypatch.delenv(name)
    return {
        "RECADO_BOOTSTRAP_SERVERS": f"localhost:{free_port()}",
        "RECADO_PORT": str(port),
        "RECADO_WORKER_PORT": "0",
        "RECADO_KAFKA_VERSION": os.environ.get("RECADO_KAFKA_VERSION", "4.3.1"),
    }, port


def test_up_and_every_command_of_the_readme(home, tmp_path):
    environment, port = home
    with running(["-m", "recado", "up"], environment, tmp_path) as up:
        eventually(lambda: "Everything runs" in up.log, within_s=90, why=lambda: up.log)
        told = next(line for line in up.log.splitlines() if line.strip().startswith("curl "))
        (send, flush) = (
            [part.replace("localhost:5000", f"localhost:{port}") for part in command] for command in readme_curls()
        )
        assert shlex.split(told)[1:] == send  # what it says to try is what the README says
        answer = json.loads(curl(*send))
        assert (answer["status"], answer["topic"]) == ("delivered", "flask-topic")
        assert json.loads(curl(*flush)) == {"status": "flushed", "delivered": 1, "pending": 0}
        eventually(lambda: "Hola Kafka" in up.log.split("Everything runs", 1)[1].split("Docs:", 1)[1], why=up.log)
        for command in shell_lines("recado kafka"):
            ran = tool(command, environment, tmp_path)
            assert ran.returncode == 0, (command, ran.stderr)
            if "console-consumer" in command:
                assert ran.stdout.strip() == "Hola Kafka"
            if "consumer-groups" in command:
                assert "flask-topic" in ran.stdout
        pids = children(up.process.pid)
        assert len(pids) == 3  # Kafka, gateway, worker
        assert up.stop(signal.SIGINT, within_s=60) == 0, up.log
        assert "Everything has stopped." in up.log
        assert "Traceback" not in up.log
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()


def test_up_killed_leaves_nobody_behind(home, tmp_path):
    environment, _ = home
    with running(["-m", "recado", "up"], environment, tmp_path) as up:
        eventually(lambda: "Everything runs" in up.log, within_s=90, why=lambda: up.log)
        pids = children(up.process.pid)
        up.process.kill()
        up.process.wait(10)
        eventually(lambda: not [pid for pid in pids if alive(pid)], within_s=60)


def test_up_says_which_port_is_taken(home, tmp_path, kafka):
    environment, _ = home
    environment["RECADO_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
    start = contextmanager(gateway)
    with start(kafka.bootstrap_servers, tmp_path) as (_, taken):
        environment["RECADO_PORT"] = str(taken)
        with running(["-m", "recado", "up"], environment, tmp_path) as up:
            assert up.process.wait(30) == 2
            assert f"Port {taken} on 127.0.0.1 is taken" in up.log
            assert "Traceback" not in up.log


def test_the_readmes_handler_and_flask_app_run_under_up(home, tmp_path, kafka):
    environment, port = home
    environment["RECADO_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    topic = make_topic(kafka.bootstrap_servers, 3, {})
    (tmp_path / "jobs.py").write_text(blocks[0].replace("flask-topic", topic).replace("flask-consumer-group", topic))
    (tmp_path / "shop.py").write_text(blocks[1] + '\n@app.get("/own")\ndef own():\n    return "mine"\n')
    with running(["-m", "recado", "up", "shop.py", "jobs.py"], environment, tmp_path) as up:
        eventually(lambda: "Everything runs" in up.log, within_s=60, why=lambda: up.log)
        assert curl(f"http://localhost:{port}/own") == "mine"
        body = json.dumps({"message": "for my handler", "topic": topic})
        answer = curl("-H", "Content-Type: application/json", "-d", body, f"http://localhost:{port}/send")
        assert json.loads(answer)["status"] == "delivered"
        eventually(lambda: "for my handler" in up.log, why=lambda: up.log)
        assert up.stop(signal.SIGTERM, within_s=60) == 0


def test_the_whole_path_on_a_cluster_that_demands_sasl_ssl_by_settings_alone(secure_kafka, tmp_path):
    kafka, properties = secure_kafka
    topic = f"secured-{free_port()}"
    settings = {
        f"RECADO_KAFKA_{name.upper().replace('.', '_')}": value
        for name, value in properties.items()
        if name != "bootstrap.servers"
    }
    settings |= {"RECADO_TOPIC": topic, "RECADO_GROUP": topic, "RECADO_WORKER_PORT": "0"}
    admin = AdminClient(properties)
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
    start = contextmanager(gateway)
    servers = {"RECADO_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    with (
        start(kafka.bootstrap_servers, tmp_path, **settings) as (_, port),
        running([str(ROOT / "worker.py")], {**servers, **settings}, tmp_path) as worker,
    ):
        body = json.dumps({"message": "sealed"})
        answer = json.loads(curl("-H", "Content-Type: application/json", "-d", body, f"http://localhost:{port}/send"))
        assert answer["status"] == "delivered"
        eventually(lambda: "sealed" in worker.log, why=lambda: worker.log)
        assert worker.stop(signal.SIGTERM) == 0
        where = committed(kafka.bootstrap_servers, topic, topic, 3, **properties)
        assert where[answer["partition"]] == 1


def test_without_the_password_it_says_so(secure_kafka, tmp_path):
    kafka, _ = secure_kafka
    port = free_port()
    environment = {"RECADO_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "RECADO_PORT": str(port), "RECADO_WAIT_S": "1"}
    with running([str(ROOT / "app.py")], environment, tmp_path):
        eventually(lambda: status(f"http://127.0.0.1:{port}/health/ready") == 503)


def tool(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RECADO, *command], env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True, timeout=90
    )


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
