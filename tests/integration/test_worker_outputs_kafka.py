"""What handlers send, on a real Kafka whose worker is killed; an independent reader looks at the output."""

from __future__ import annotations

import json

from tests.integration.test_worker_kafka import scene  # noqa: F401 - a fixture
from tests.programs import eventually, read_all

COPIER = """
@worker.handler(concurrency=8)
def handle(record: Record) -> Record:
    time.sleep(0.002)
    record.send("OUT", {"of": [record.partition, record.offset]}, key=record.key)
    note("ended", record)
"""


def test_a_killed_worker_leaves_no_record_without_what_its_handler_sends(scene, topic):  # noqa: F811
    name, out, count = topic(partitions=3), topic(partitions=1), 3000
    scene.send(name, count, keys=50)
    handler = COPIER.replace("OUT", out)
    for _ in range(2):
        before = len(scene.journal("ended"))
        with scene.worker(handler, name) as program:
            eventually(lambda before=before: len(scene.journal("ended")) > before + 400, why=lambda: program.log)
            program.process.kill()
            program.process.wait(10)
        sent = {tuple(json.loads(message.value())["of"]) for message in read_all(scene.bootstrap, out)}
        for partition, offset in scene.committed(name, 3).items():
            assert all((partition, number) in sent for number in range(offset)), "committed, but its output is missing"
    with scene.worker(handler, name) as program:
        eventually(lambda: sum(scene.committed(name, 3).values()) == count, within_s=60, why=lambda: program.log)
        assert program.stop() == 0
    by_source: dict[tuple[int, int], set[bytes]] = {}
    for message in read_all(scene.bootstrap, out):
        by_source.setdefault(tuple(json.loads(message.value())["of"]), set()).add(dict(message.headers())["recado-id"])
    assert len(by_source) == count
    assert {len(ids) for ids in by_source.values()} == {1}, "a repeated attempt sent another id"
    assert len({next(iter(ids)) for ids in by_source.values()}) == count
