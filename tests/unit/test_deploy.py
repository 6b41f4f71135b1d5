"""The dashboard and the alerts ask for what gateways and workers expose, and for all of it."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recado import Worker
from recado.gateway.api import create_app
from recado.kafka.abstract import Link
from recado.kafka.memory import MemoryKafka
from recado.settings import Settings
from tests.fronts import FakeKafka
from tests.programs import ROOT, eventually, free_port
from tests.promql import DASHBOARD, RULES, Asked, dashboard_queries, parse, rules
from tests.twin import GROUP, member

#: What Prometheus adds by itself, or by prometheus.yml.
TARGET_LABELS = {"job", "instance", "group"}

QUERIES = {**dashboard_queries(), **rules()}
ASKED = {asked for query in QUERIES.values() for asked in parse(query).asked}


@pytest.mark.parametrize(
    "wrong", ["sum(rate(x[5m])", "x)", 'x{a="1"', "x{a=1}", "sum by topic (x)", "x[5 minutes]", "x{a}", "x ? y"]
)
def test_what_is_no_query_is_not_read(wrong):
    with pytest.raises((AssertionError, IndexError, ValueError)):
        parse(wrong)


def exposed(text: str) -> dict[str, str]:
    """The type of each sample name that may stand in a page of metrics, recado's and Prometheus's own."""
    names = {"up": "gauge"}
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):  # when a counter began; the library adds it by itself
            continue
        for ending in {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""]):
            names[family.name + ending] = family.type
    return names


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What a gateway and a worker expose, by their own routes."""
    kafka = FakeKafka()
    settings = Settings(topic="orders", group=GROUP, spool=False, data_dir=tmp_path_factory.mktemp("data"))
    link = Link(kafka, kafka, lambda: kafka)
    app = create_app(settings, connect=lambda settings: link, clients=lambda settings: MemoryKafka().outlet().clients)
    gateways = exposed(app.test_client().get("/metrics").text)
    worker, port = Worker(), free_port()
    worker.handler("orders")(lambda record: None)
    mine = Settings(topic="orders", group=GROUP, worker_port=port, log_level="error")
    with member(worker, MemoryKafka({"orders": 1}), mine):
        text = eventually(lambda: read(port))
    return {"gateway": gateways, "worker": exposed(text)}


def read(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def labels_in_the_docs() -> dict[str, set[str]]:
    """Label names by metric; tests/integration proves them on a real scrape."""
    rows = re.findall(r"^\| `(recado_\w+)` \| ([\w, ]*) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name: {label.strip() for label in labels.split(",") if label.strip()} for name, labels in rows}


@pytest.mark.parametrize("place", QUERIES)
def test_each_metric_of_a_query_is_exposed_and_has_the_labels_that_it_is_asked_by(place, pages):
    parsed, documented = parse(QUERIES[place]), labels_in_the_docs()
    assert parsed.asked
    for metric, labels in parsed.asked:
        page = pages["worker" if metric.startswith("recado_worker") else "gateway"]
        assert metric in page
        family = metric.removesuffix("_bucket") if page[metric] == "histogram" else metric
        has = documented.get(family, set()) | TARGET_LABELS | ({"le"} if metric.endswith("_bucket") else set())
        assert labels <= has, (metric, labels - has)
        assert parsed.grouped_by <= has, (metric, parsed.grouped_by - has)


def test_each_metric_of_ours_stands_in_the_dashboard(pages):
    shown = {asked.metric for query in dashboard_queries().values() for asked in parse(query).asked}
    ours = {name for page in pages.values() for name in page if name.startswith("recado_")}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in ours
    }


def test_counters_are_asked_for_their_rate_and_gauges_are_not(pages):
    for place, query in QUERIES.items():
        for function, metric in re.findall(r"(?:(rate|increase)\()?\b((?:recado_|up)\w*)", query):
            kind = {**pages["gateway"], **pages["worker"]}[metric]
            selected = r"(\{[^}]*\})?"
            first = rf"{metric}{selected} unless {metric}{selected} offset"  # a series begins with its first event
            assert bool(function) == (kind != "gauge") or re.search(first, query), (place, metric)


def test_panels_stand_side_by_side_and_have_their_own_ids():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_alert_is_tested_explained_and_documented():
    names = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert list(rules()) == names
    tested = RULES.with_name("recado.rules.test.yml").read_text()
    page = (ROOT / "docs/monitoring.md").read_text()
    assert re.findall(r'alertname="(\w+)"', tested) == sorted(names)
    assert set(re.findall(r"^\| `(Recado\w+)`", page, re.MULTILINE)) == set(names)
    for name, block in zip(names, RULES.read_text().split("- alert: ")[1:], strict=True):
        assert "summary:" in block, name
        assert "description:" in block, name


def test_the_reader_of_queries_sees_every_metric_and_label():
    query = 'max by (topic) (rate(a_total{x="1", y=~"2|{3}"}[5m])) > 0.5 * sum(b) or c{z!=""} offset 5m'
    assert parse(query).asked == [
        Asked("a_total", frozenset({"x", "y"})), Asked("b", frozenset()), Asked("c", frozenset({"z"})),
    ]  # fmt: skip
    assert parse(query).grouped_by == {"topic"}
