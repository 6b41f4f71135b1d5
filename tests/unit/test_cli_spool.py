"""`recado spool`: what waits, what was refused, and dealing with it, with and without a running gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from recado.cli import spool as command
from recado.errors import RecordTooLarge, UnknownTopic
from recado.gateway.spool.row import REFUSED, WAITING
from recado.gateway.spool.store import Store
from recado.kafka.abstract import Link
from tests.command import Ran, recado
from tests.fronts import FakeKafka
from tests.programs import eventually
from tests.spools import Scripted, disk_ids, filled, keep, record, spooling


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / ".recado" / "spool"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def kafka(monkeypatch) -> FakeKafka:
    kafka = FakeKafka()
    monkeypatch.setattr(command, "connect", lambda settings: Link(kafka, kafka, lambda: kafka))
    return kafka


def spool(*arguments: str, **more: str) -> Ran:
    return recado("spool", *arguments, **more)


def mixed(path: Path) -> None:
    store = Store(path)
    rows = [record("w", value=b"waits"), record("r", value=b"\xff\xfe", key=b"k", headers=[("h", b"v\x1b")])]
    store.append([(rows[0], 1_000, WAITING, ""), (rows[1], 2_000, REFUSED, "too large")])
    store.close()


@pytest.mark.parametrize("name", ["list", "show", "forward", "discard"])
def test_each_part_explains_itself(folder, name):
    ran = spool(name, "--help")
    assert ran.code == 0
    assert "Usage: recado spool" in ran.out
    assert "--data-dir" in ran.out
    assert f"recado spool {name}" in spool("--help").out


def test_without_a_spool_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = spool("list")
    assert (ran.code, ran.out) == (0, "")
    assert "There is no spool" in ran.err
    assert spool("list", "--json").json == []
    assert spool("forward").code == 0
    assert not (tmp_path / ".recado").exists()


def test_the_list_counts_what_waits_and_what_was_refused(folder):
    mixed(folder / "spool-1.db")
    (row,) = spool("list", "--json").json
    assert (row["state"], row["waiting"], row["refused"], row["oldest_ms"]) == ("no gateway", 1, 1, 1_000)
    assert row["bytes"] > 0
    titles, line = spool("list").out.splitlines()
    assert titles.split("\t") == ["file", "state", "waiting", "bytes", "oldest", "refused"]
    assert line.startswith("spool-1.db\tno gateway\t1\t")


def test_the_list_shows_damaged_files(folder):
    (folder / "spool-1.db").write_bytes(b"rubbish" * 1000)
    assert "cannot be read" in spool("list").out
    with spooling(folder, Scripted()):
        rows = spool("list", "--json").json
    assert [row["state"] for row in rows] == ["in use", "damaged, saved"]


def test_the_refused_are_listed_with_their_reasons(folder):
    mixed(folder / "spool-1.db")
    ran = spool("list", "--refused")
    assert ran.out.splitlines()[1].split("\t") == ["r", "t", "1970-01-01T00:00:02.000+00:00", "too large"]
    assert spool("list", "--refused", "--json").json[0]["reason"] == "too large"


def test_one_record_is_shown_whole_and_cannot_rule_the_terminal(folder):
    mixed(folder / "spool-1.db")
    ran = spool("show", "r")
    assert ran.code == 0
    for text in ("refused: too large", "h: v\\x1b", "base64://4=", "k"):
        assert text in ran.out
    shown = spool("show", "r", "--json").json
    assert (shown["topic"], shown["key"], shown["value_base64"], shown["state"]) == ("t", "k", "//4=", "refused")
    ran = spool("show", "nobody")
    assert ran.code == 1
    assert "nobody" in ran.err


def test_forward_sends_what_waits_in_order(folder, kafka):
    filled(folder / "spool-1.db", [f"{n}" for n in range(50)])
    filled(folder / "spool-4.db", ["orphan"])
    ran = spool("forward")
    assert (ran.code, ran.out) == (0, "Forwarded 51 records.\n")
    assert [sent.id for sent in kafka.produced] == [*(f"{n}" for n in range(50)), "orphan"]
    assert disk_ids(folder) == []


def test_forward_sends_the_refused_only_when_told(folder, kafka):
    mixed(folder / "spool-1.db")
    ran = spool("forward")
    assert (ran.code, ran.out) == (3, "Forwarded 1 records.\n")
    assert "recado spool list --refused" in ran.err
    assert spool("forward").err == "Nothing to forward.\n"
    assert spool("forward", "--refused").code == 0
    assert [sent.id for sent in kafka.produced] == ["w", "r"]
    assert disk_ids(folder) == []


@pytest.mark.parametrize(
    ("error", "reason"), [(RecordTooLarge("too large"), ""), (UnknownTopic("topic t: gone"), "gone")]
)
def test_forward_that_leaves_something_is_3(folder, kafka, error, reason):
    filled(folder / "spool-1.db", ["a"])
    kafka.fate = lambda number, record: error
    ran = spool("forward")
    assert ran.code == 3
    assert reason in ran.err
    assert disk_ids(folder) == ["a"]


def test_forward_without_kafka_is_4_and_everything_stays(folder, kafka):
    filled(folder / "spool-1.db", ["a"])
    kafka.reachable = False
    kafka.fate = lambda number, record: None
    ran = spool("forward")
    assert ran.code == 4
    assert "1 records are left" in ran.err
    assert disk_ids(folder) == ["a"]


def test_forward_leaves_a_running_gateways_spool_to_it(folder, kafka):
    with spooling(folder, Scripted()) as running:
        keep(running, "a", asked=True)
        ran = spool("forward")
        assert ran.code == 0
        assert "a running gateway forwards its 1 records by itself" in ran.err
    assert kafka.produced == []


def test_discard_asks_and_tells(folder):
    mixed(folder / "spool-1.db")
    assert recado("spool", "discard", "r", stdin="n\n").code == 130
    assert disk_ids(folder) == ["w", "r"]
    ran = recado("spool", "discard", "r", stdin="y\n")
    assert ran.code == 0
    assert ran.out == "Discarded r: topic t, 2 bytes, refused: too large.\n"
    assert disk_ids(folder) == ["w"]
    assert spool("discard", "w", "--yes").code == 0  # no gateway runs
    assert disk_ids(folder) == []
    assert spool("discard", "w", "--yes").code == 1


def test_discard_while_a_gateway_runs(folder):
    kafka = Scripted()
    with spooling(folder, kafka) as running:
        keep(running, "r", "w", asked=True)
        eventually(lambda: len(kafka.waiting) == 2)
        kafka.report(RecordTooLarge("no"), "r")
        eventually(lambda: [row.state for row in _rows(folder)] == [REFUSED, WAITING])
        ran = spool("discard", "w", "--yes")
        assert ran.code == 1
        assert "a running gateway forwards it" in ran.err
        assert spool("discard", "r", "--yes").code == 0
        eventually(lambda: running.refused == 0)
        keep(running, "later", asked=True)
        eventually(lambda: len(kafka.waiting) == 2)
        kafka.confirm()
        eventually(lambda: not running.lines())
        assert running.held_bytes() < 1e-3


def _rows(folder: Path):
    from tests.spools import on_disk

    return on_disk(folder)
