"""Two gateways behind a real nginx, one after the other restarted under load: no request is dropped."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.programs import ROOT, eventually, free_port, read_all, running, status

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

#: As docs/gateway.md says it. The defaults of proxy_next_upstream are what a POST may have: the other gateway is asked
#: where the first could not be connected to.
CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream gateways {{
    server 127.0.0.1:{first} max_fails=1 fail_timeout=1s;
    server 127.0.0.1:{second} max_fails=1 fail_timeout=1s;
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""

CLIENTS = 8


@contextmanager
def nginx(folder: Path, first: int, second: int) -> Iterator[int]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, first=first, second=second, port=port))
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen([str(NGINX), "-p", str(folder), "-c", str(config)], stdout=log, stderr=log)
    try:
        eventually(lambda: status(f"http://127.0.0.1:{port}/health/live") == 200, why="nginx does not answer")
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(
    NGINX is None and "CI" not in os.environ, reason="nginx is not installed: apt-get install nginx-light"
)
def test_a_rolling_restart_behind_nginx_drops_no_request(kafka, topic, tmp_path: Path):
    name, ports = topic(partitions=3), [free_port(), free_port()]
    environments = [
        {
            "RECADO_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "RECADO_TOPIC": name,
            "RECADO_PORT": str(port),
            "RECADO_DATA_DIR": str(tmp_path / str(port)),
            "RECADO_DRAIN_DELAY_S": "1",
        }
        for port in ports
    ]
    answers: Counter[int | str] = Counter()
    sent: dict[str, str] = {}
    done = threading.Event()

    def client(number: int, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for count in range(100_000):
            if done.is_set():
                break
            value = f"{number}-{count}"
            try:
                connection.request(
                    "POST", "/send", json.dumps({"message": value}), {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                answers[type(error).__name__] += 1
                return
            answers[response.status] += 1
            sent[value] = answer.get("id", "")
        connection.close()

    with (
        running([str(ROOT / "app.py")], environments[0], tmp_path) as first,
        running([str(ROOT / "app.py")], environments[1], tmp_path) as second,
    ):
        for port, program in zip(ports, (first, second), strict=True):
            eventually(lambda port=port: status(f"http://127.0.0.1:{port}/health/ready") == 200, why=program.log)
        with nginx(tmp_path, *ports) as door:
            clients = [threading.Thread(target=client, args=(number, door)) for number in range(CLIENTS)]
            for thread in clients:
                thread.start()
            restart(first, environments[0], tmp_path, ports[0], second, environments[1], ports[1], answers, done)
            for thread in clients:
                thread.join(40)
    assert set(answers) <= {200, 202}, answers
    assert sum(answers.values()) > 100, answers
    stored = Counter(message.value().decode() for message in read_all(kafka.bootstrap_servers, name))
    assert stored == Counter(sent.keys()), "each exactly once"


def restart(first, first_environment, folder, first_port, second, second_environment, second_port, answers, done):
    """Restart one gateway, then the other, with some requests before, between and after."""

    def served(more: int) -> None:
        target = sum(answers.values()) + more
        eventually(lambda: sum(answers.values()) >= target, within_s=60, why=lambda: f"answers: {answers}")

    served(200)
    assert first.stop() == 0, first.log
    served(100)
    with running([str(ROOT / "app.py")], first_environment, folder) as again:
        eventually(lambda: status(f"http://127.0.0.1:{first_port}/health/ready") == 200, why=again.log)
        served(200)
        assert second.stop() == 0, second.log
        served(100)
        with running([str(ROOT / "app.py")], second_environment, folder) as once_more:
            eventually(lambda: status(f"http://127.0.0.1:{second_port}/health/ready") == 200, why=once_more.log)
            served(200)
            done.set()
            assert again.stop() == 0, again.log
            assert once_more.stop() == 0, once_more.log
