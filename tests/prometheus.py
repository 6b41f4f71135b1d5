"""Starts a real Prometheus for a test: with the rules of deploy/, on a free port, ended by its pid."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs import ROOT, eventually, free_port

#: What users copy.
DEPLOY = ROOT / "deploy/prometheus"


def program(name: str) -> str:
    """Where ``prometheus`` or ``promtool`` is."""
    found = shutil.which(name)
    if found is not None:
        return found
    message = f"{name} is not installed (Debian: apt install prometheus)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer; AssertionError with Prometheus's own words where it refuses."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series that a query finds now."""
        found: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return found

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """Run it while the block does, with the example's configuration, but for its pace and its ``targets`` by job."""
    binary, port = program("prometheus"), free_port()
    config = (DEPLOY / "prometheus.yml").read_text()
    for job, target in targets.items():
        config, count = re.subn(rf'(job_name: {job}\n.*\n.*targets: \["127\.0\.0\.1:)\d+', rf"\g<1>{target}", config)
        assert count == 1, job
    config, count = re.subn("15s", "1s", config)
    assert count == 2
    (folder / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "recado.rules.yml", folder)
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log, cwd=folder)
    running = Prometheus(port)
    try:
        eventually(running.is_ready, why=(folder / "prometheus.log").read_text)
        yield running
    finally:
        process.terminate()
        process.wait(20)
