"""A real Prometheus scrapes a gateway and a worker: every alert and every query of the dashboard is asked."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.test_worker_kafka import scene  # noqa: F401 - a fixture
from tests.programs import Program, eventually, gateway
from tests.prometheus import DEPLOY, Prometheus, program, prometheus
from tests.promql import dashboard_queries, parse, rules

#: What becomes of a record is its value. A second handler works in transactions.
HANDLER = """
from recado import Retry
@worker.handler(TOPIC, concurrency=4)
def handle(record: Record):
    if record.text() == "rejected":
        raise Reject("no good")
    if record.text() == "retried" and record.attempt == 1:
        raise Retry(delay_s=0.2)
    if record.text() == "slow":
        time.sleep(60)
    if record.text() == "on":
        return Record(b"further", OTHER)

@worker.handler(OTHER, exactly_once=True)
def pass_on(record: Record):
    return Record(b"last", LAST)
"""

#: These have no series while nothing of the kind has happened.
SELDOM = {
    "recado_delay_hops_total",
    "recado_delay_refused_total",
    "recado_delay_unreadable_total",
    "recado_worker_late_results_total",
    "recado_worker_paused_handlers",
}


def test_the_alerts_fire_when_they_should_and_only_then():
    done = subprocess.run(
        [program("promtool"), "test", "rules", "recado.rules.test.yml"],
        cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    checked = subprocess.run(
        [program("promtool"), "check", "config", "prometheus.yml"],
        cwd=DEPLOY,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@contextmanager
def everything(scene, topic, tmp_path) -> Iterator[tuple[Prometheus, Program, str]]:  # noqa: F811
    """A gateway and a worker that have done something of each kind, and a Prometheus that reads both."""
    name, other, last = topic(partitions=2), topic(), topic()
    names = f"TOPIC, OTHER, LAST = {name!r}, {other!r}, {last!r}\n"
    folder = tmp_path / "prometheus"
    folder.mkdir()
    settings = {"RECADO_TOPIC": name, "RECADO_DATA_DIR": str(tmp_path / "data")}
    with (
        contextmanager(gateway)(scene.bootstrap, tmp_path, **settings) as (_, port),
        scene.worker(names + HANDLER, name) as worker,
        prometheus(folder, {"recado-gateway": port, "recado-worker": scene.port}) as running,
    ):
        eventually(lambda: all(found["value"][1] == "1" for found in running.query("up")) and running.query("up"))
        for _ in range(3):  # a rate needs a series to move
            for value in ("fine", "retried", "rejected", "on"):
                assert send(port, {"message": value, "key": value}) == 200
            assert send(port, {"message": "fine", "key": "spooled"}, prefer="respond-async") == 202
            for number in range(8):  # of delay topics another test's process may hold some partitions still
                assert send(port, {"message": "fine", "key": f"later {number}", "delay": "1s"}) == 202
            eventually(
                lambda: running.query(f'sum(recado_worker_lag_records{{topic="{name}"}}) == 0'), why=lambda: worker.log
            )
        assert send(port, {"message": "slow", "key": "slow"}) == 200
        yield running, worker, name


def send(port: int, body: dict[str, str], prefer: str = "wait=5") -> int:
    headers = {"Content-Type": "application/json", "Prefer": prefer}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/send", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status


def test_every_query_of_the_dashboard_and_of_the_alerts_is_answered_with_series(scene, topic, tmp_path):  # noqa: F811
    with everything(scene, topic, tmp_path) as (running, worker, name):
        lag = f'recado_worker_lag_records{{topic="{name}"}}'
        eventually(lambda: running.query(f"sum({lag}) == 1"), why=lambda: worker.log)
        queries = {**dashboard_queries(), **rules()}
        for query in queries.values():
            for asked in parse(query).asked:
                if asked.metric not in SELDOM:
                    metric = asked.metric
                    eventually(lambda m=metric: running.query(m), within_s=60, why=f"{metric} has no series")
        for place, query in queries.items():
            running.query(query)  # Prometheus can read it
            asked = {found.metric for found in parse(query).asked}
            if place not in rules() and "> 0" not in query and not asked & SELDOM:
                eventually(lambda query=query: running.query(query), why=f"{place} shows nothing: {query}")
        groups = running.ask("rules", type="alert")["groups"]
        found = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert set(found) == set(rules())
        eventually(lambda: all(rule["health"] == "ok" for rule in alerts(running)), why=lambda: str(alerts(running)))
        (dead,) = eventually(lambda: firing(running, "RecadoDeadLetters"))
        assert dead["labels"]["topic"] == name
        assert dead["labels"]["group"] == "flask-consumer-group"  # as the example says
        assert "Reject in " in dead["labels"]["fingerprint"]
        assert not firing(running, "RecadoWorkerNotReady")
        assert not firing(running, "RecadoKafkaUnreachable")  # it would be waiting for its minute
        labels = {
            asked.metric: set(running.query(asked.metric)[0]["metric"])
            for query in queries.values()
            for asked in parse(query).asked
            if asked.metric not in SELDOM
        }
        for query in queries.values():
            for asked in parse(query).asked:
                own = {label for label in asked.labels if label not in ("group", "job", "instance")}
                assert asked.metric in SELDOM or own <= labels[asked.metric], (asked, labels[asked.metric])


def alerts(running: Prometheus) -> list[dict]:
    return [rule for group in running.ask("rules", type="alert")["groups"] for rule in group["rules"]]


def firing(running: Prometheus, name: str) -> list[dict]:
    return [alert for alert in running.ask("alerts")["alerts"] if alert["labels"]["alertname"] == name]


@pytest.mark.parametrize("name", ["prometheus", "promtool"])
def test_a_machine_without_it_skips_and_ci_fails(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install prometheus"):
        program(name)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt install prometheus"):
        program(name)
