"""`recado worker` as a user calls it: what is wrong is said in a line, and --reload takes up what changes."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Producer

from tests.programs import Program, committed, eventually, free_port, running

WORKER = """
from recado import Record, Worker
worker = Worker()

@worker.handler()
def handle(record: Record) -> None:
    print("{greeting}", record.text())
"""


def environment(bootstrap: str = "127.0.0.1:1", topic: str = "orders", group: str = "group") -> dict[str, str]:
    return {
        "RECADO_BOOTSTRAP_SERVERS": bootstrap,
        "RECADO_TOPIC": topic,
        "RECADO_GROUP": group,
        "RECADO_WORKER_PORT": str(free_port()),
    }


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere:worker", "no module 'nowhere'"),
        ("", "'' names no module; it must be like shop.jobs:worker or jobs.py"),
        (":worker", "':worker' names no module"),
        ("jobs:", "'jobs:' names no Worker"),
        ("jobs:other", "'other' must be a Worker; the module has nothing of that name"),
        ("jobs.py:number", "'number' must be a Worker; the module has a int"),
        ("wrong.py", "handle: order is 'sideways'"),
        ("option.py", "handler() got an unexpected keyword argument 'exactly'"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--processes", "2"], ["--reload"]])
def test_a_mistake_is_said_in_a_line_with_exit_code_2(tmp_path, target, said, options):
    (tmp_path / "jobs.py").write_text(WORKER.format(greeting="got") + "\nnumber = 1\n")
    (tmp_path / "wrong.py").write_text(WORKER.replace("handler()", "handler(order='sideways')"))
    (tmp_path / "option.py").write_text(WORKER.replace("handler()", "handler(exactly=True)"))
    with running(["-m", "recado", "worker", target, *options], environment(), tmp_path) as program:
        code = program.process.wait(30)
        assert said in program.log
        if target != "option.py":  # a keyword that does not exist is Python's own TypeError
            assert (code, "Traceback" in program.log) == (2, False), program.log


def send(bootstrap: str, topic: str, value: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value)
    assert producer.flush(30) == 0


def test_reload_takes_up_a_change_and_waits_out_a_mistake(kafka, topic, tmp_path):
    name, group, bootstrap = topic(partitions=1), f"g-{uuid.uuid4().hex[:8]}", kafka.bootstrap_servers
    code = tmp_path / "jobs.py"
    code.write_text(WORKER.format(greeting="first"))
    arguments = ["-m", "recado", "worker", "jobs.py", "--reload"]

    def said(program: Program, *lines: str) -> None:
        eventually(lambda: all(line in program.log for line in lines), why=program.log)

    with running(arguments, environment(bootstrap, name, group), tmp_path) as program:
        send(bootstrap, name, "one")
        said(program, "first one")
        code.write_text(WORKER.replace("handler()", "handler(order='sideways')").format(greeting="never"))
        said(program, "jobs.py changed", "order is 'sideways'")
        code.write_text(WORKER.format(greeting="second"))
        send(bootstrap, name, "two")
        said(program, "second two")
        eventually(lambda: committed(bootstrap, group, name, 1) == {0: 2})
        assert program.stop() == 0, program.log
        assert "never" not in program.log
        assert "first two" not in program.log
        assert "second one" not in program.log
