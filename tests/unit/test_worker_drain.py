"""The end of a worker on the in-memory twin: what is committed, and what is said to remain."""

from __future__ import annotations

import threading

from prometheus_client import REGISTRY

from recado import Record, Worker
from recado.kafka.memory import MemoryKafka
from recado.settings import Settings
from tests.twin import GROUP, SETTINGS, committed, member


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def stop_in_a_rebalance(settings: Settings, consumes: int) -> tuple[int, int | None]:
    """Stop a worker that has done one record while commits are refused; its exit code, and what is committed."""
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    began, go = threading.Event(), threading.Event()

    @worker.handler("orders")
    def handle(record: Record) -> None:
        began.set()
        assert go.wait(20)

    kafka.send("orders", "a")
    with member(worker, kafka, settings) as running:
        assert began.wait(20)
        with kafka.changed:
            kafka.group(GROUP).rebalancing[running.consumer] = consumes
            go.set()
        worker.stop()
        return running.join(), committed(kafka)


def test_who_stops_in_a_rebalance_catches_up_and_commits_before_it_leaves():
    failed = metric("recado_worker_commits_total", result="failed")
    assert stop_in_a_rebalance(SETTINGS, consumes=10) == (0, 1)
    assert metric("recado_worker_commits_total", result="failed") > failed, "it was refused before"


def test_a_commit_that_is_refused_to_the_end_is_reported_with_its_reason(capsys):
    settings = Settings(group=GROUP, worker_port=0, drain_s=0.3, log_format="json")
    code, offset = stop_in_a_rebalance(settings, consumes=1_000_000)
    assert code == 3
    assert offset in (None, 0)
    assert "the group rebalances" in capsys.readouterr().err
