"""Counters, histograms and gauges of recado's own, and labels that do not grow without an end."""

from __future__ import annotations

import subprocess
import sys

from prometheus_client import CollectorRegistry

from recado.telemetry.bounded import MAX_CHARS, OTHER, Bounded
from recado.telemetry.reading import Reading
from recado.telemetry.tally import Timing
from recado.telemetry.told import Told


def test_a_gauge_is_asked_when_it_is_read_and_forgets_who_is_gone():
    registry = CollectorRegistry()
    gauge = Reading("lag", "Lag.", ["topic"], registry=registry)
    now = {"orders": 3.0}
    stop = gauge.tell(lambda: (((topic,), value) for topic, value in now.items()))
    gauge.tell(lambda: [(("orders",), 1.0), (("other",), 7.0)])
    assert registry.get_sample_value("lag", {"topic": "orders"}) == 4.0
    now["orders"] = 10.0
    assert registry.get_sample_value("lag", {"topic": "orders"}) == 11.0
    stop()
    stop()
    assert registry.get_sample_value("lag", {"topic": "orders"}) == 1.0
    assert registry.get_sample_value("lag", {"topic": "other"}) == 7.0


def test_many_observations_of_one_length_count_as_many():
    registry = CollectorRegistry()
    timing = Timing("took_seconds", "Time.", "topic", buckets=(1, 10), registry=registry)
    timing.observe("orders", 0.5, 1000)
    timing.observe("orders", 20.0)
    assert registry.get_sample_value("took_seconds_count", {"topic": "orders"}) == 1001
    assert registry.get_sample_value("took_seconds_sum", {"topic": "orders"}) == 520
    assert registry.get_sample_value("took_seconds_bucket", {"topic": "orders", "le": "1.0"}) == 1000
    assert [timing.bucket(seconds) for seconds in (0.5, 1.0, 1.1, 11)] == [0, 0, 1, 2]


def test_labels_from_outside_are_as_many_as_their_bound_and_short():
    kinds = Bounded(2)
    assert [kinds.label(name) for name in ("a", "b", "c", "a", "c")] == ["a", "b", OTHER, "a", OTHER]
    assert len(Bounded(1).label("x" * 1000)) == MAX_CHARS


def test_a_gauge_that_nobody_tells_has_no_value_and_the_last_who_does_is_asked():
    registry = CollectorRegistry()
    gauge = Told("reachable", "Whether it is.", registry=registry)
    assert registry.get_sample_value("reachable") is None
    gauge.tell(lambda: 0.0)
    assert registry.get_sample_value("reachable") == 0.0
    gauge.tell(lambda: 1.0)
    assert registry.get_sample_value("reachable") == 1.0


def test_a_worker_tells_nothing_of_a_gateway_that_it_is_not():
    program = "import recado.worker; from prometheus_client import generate_latest; print(generate_latest().decode())"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    told = [line for line in ran.stdout.splitlines() if line.startswith("recado_")]
    assert not [line for line in told if not line.startswith("recado_worker_")], told
