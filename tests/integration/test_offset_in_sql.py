"""``record.offset_in``: workers are killed between the user's COMMIT and Kafka's commit, on two real databases."""

from __future__ import annotations

import sqlite3
import threading
import time

import psycopg
import pytest

from recado import AlreadyDone, Record, offset_table
from tests.integration.test_worker_kafka import scene  # noqa: F401 - a fixture
from tests.postgres import postgres
from tests.programs import eventually

SQLITE = """
import sqlite3
connect = lambda: sqlite3.connect("shop.sqlite", timeout=20)
PAY = "INSERT INTO paid VALUES(?, ?)"
"""
POSTGRES = """
import psycopg
connect = lambda: psycopg.connect("WHERE")
PAY = "INSERT INTO paid VALUES(%s, %s)"
"""
HANDLER = """
@worker.handler(concurrency=4)
def handle(record: Record) -> None:
    connection = connect()
    try:
        with connection:
            record.offset_in(connection)
            connection.execute(PAY, (record.partition, record.offset))
    finally:
        connection.close()
    note("ended", record)
    time.sleep(0.02)  # committed there, not yet in Kafka
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with postgres(tmp_path_factory.mktemp("pg")) as where:
        yield where


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_effects_in_the_users_database_happen_once_whoever_is_killed(scene, topic, database, request):  # noqa: F811
    if database == "postgres":
        where = request.getfixturevalue("server")
        connect, program = (lambda: psycopg.connect(where)), POSTGRES.replace("WHERE", where)
    else:
        path = scene.folder / "shop.sqlite"
        connect, program = (lambda: sqlite3.connect(path, timeout=20)), SQLITE
    setting_up = connect()
    with setting_up:
        setting_up.execute("DROP TABLE IF EXISTS paid")
        setting_up.execute("CREATE TABLE paid(partition_number INTEGER, offset_number INTEGER)")
        offset_table(setting_up)
    setting_up.close()
    name, count = topic(partitions=2), 600
    scene.send(name, count, keys=30)
    for _ in (1,):  # more kills show no more
        before = len(scene.journal("ended"))
        with scene.worker(program + HANDLER, name) as running:
            eventually(lambda before=before: len(scene.journal("ended")) > before + 50, why=lambda: running.log)
            running.process.kill()
            running.process.wait(10)
    with scene.worker(program + HANDLER, name) as running:
        eventually(lambda: sum(scene.committed(name, 2).values()) == count, within_s=60, why=lambda: running.log)
        assert running.stop() == 0
        assert "done already" in running.log, "no kill fell between the two commits: the test proves nothing"
    reading = connect()
    rows = [tuple(row) for row in reading.execute("SELECT * FROM paid")]
    reading.close()
    assert len(rows) == len(set(rows)) == count


def test_of_two_transactions_at_once_the_second_waits_and_finds_it_done(server):
    first, second = psycopg.connect(server), psycopg.connect(server)
    offset_table(first)
    first.commit()
    record = Record(b"x", f"t-{time.time_ns()}", headers=(("recado-id", b"a"),), group="g")
    record.offset_in(first)
    came: list[BaseException | None] = []

    def other() -> None:
        try:
            record.offset_in(second)
            came.append(None)
        except AlreadyDone as error:
            came.append(error)

    waiting = threading.Thread(target=other)
    waiting.start()
    time.sleep(0.3)
    assert came == [], "it waits for the first transaction"
    first.commit()
    waiting.join(10)
    assert isinstance(came[0], AlreadyDone)
    for connection in (first, second):
        connection.close()
