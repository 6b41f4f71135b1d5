"""Where a message is that may lie on this machine's disk: what moves meanwhile is found, and Kafka may be away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recado.errors import KafkaUnreachable, UnknownTopic
from recado.gateway.spool.folder import Folder
from recado.gateway.spool.row import REFUSED, WAITING
from recado.gateway.spool.store import Store
from recado.gateway.whereabouts import certain
from recado.tracking.where import Whereabouts
from tests.command import recado
from tests.spools import record

NOBODY = Whereabouts(id="i", topic="t", state="unknown")
LANDED = Whereabouts(id="i", topic="t", state="delivered", partition=0, offset=7)
AWAY = ["--bootstrap-servers", "127.0.0.1:1"]


@pytest.fixture
def directory(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / ".recado" / "spool"
    directory.mkdir(parents=True)
    return directory


def keep(directory: Path, *rows: tuple[str, int, str]) -> None:
    store = Store(directory / "spool-1.db")
    store.append([(record(id_), 1_000, state, reason) for id_, state, reason in rows])
    store.close()


def test_what_moved_while_it_was_looked_for_is_found(directory):
    answers = iter([NOBODY, LANDED])
    assert certain(lambda: next(answers), Folder(directory), "t", "i") == LANDED


def test_what_nobody_knows_is_asked_for_twice_and_what_is_found_once(directory):
    answers = iter([NOBODY, NOBODY, LANDED])
    assert certain(lambda: next(answers), Folder(directory), "t", "i") == NOBODY
    assert certain(lambda: next(answers), Folder(directory), "t", "i") == LANDED


@pytest.mark.parametrize("error", [KafkaUnreachable("away"), UnknownTopic("none")])
def test_what_waits_on_the_disk_is_known_while_kafka_does_not_tell(directory, error):
    def ask() -> Whereabouts:
        raise error

    keep(directory, ("i", WAITING, ""))
    assert certain(ask, Folder(directory), "t", "i").state == "accepted"
    with pytest.raises(type(error)):
        certain(ask, Folder(directory), "other", "i")


def test_what_kafka_refused_is_told_with_the_reason_unless_another_copy_waits(directory):
    keep(directory, ("i", REFUSED, "too large"), ("j", REFUSED, "too large"), ("j", WAITING, ""))
    found = {id_: certain(lambda: NOBODY, Folder(directory), "t", id_) for id_ in ("i", "j")}
    assert [(at.state, at.refused) for at in found.values()] == [("accepted", "too large"), ("accepted", None)]


def test_the_command_finds_what_is_spooled_while_kafka_is_away(directory):
    keep(directory, ("i", WAITING, ""))
    ran = recado("where", "i", "--since", "1h", "--topic", "t", "--group", "g", "--json", *AWAY)
    assert (ran.code, json.loads(ran.out)["state"]) == (0, "accepted")
    assert recado("where", "other", "--since", "1h", "--topic", "t", *AWAY).code == 4


def test_the_command_follows_no_record_that_kafka_refused_and_says_what_to_do(directory):
    keep(directory, ("i", REFUSED, "too large"))
    ran = recado("where", "i", "--since", "1h", "--topic", "t", "--follow", *AWAY)
    assert ran.code == 0
    assert "refused  too large" in ran.out
    assert "recado spool discard i" in ran.out
