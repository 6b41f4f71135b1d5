"""`/dead-letters` on a real Kafka, with a worker that takes back what comes."""

from __future__ import annotations

import json
import time

import pytest

from recado import create_app
from recado.kafka.admin import Admin
from recado.letters import Desk, Filter, Redrive, listing
from recado.outcomes.group_topics import retry_topic
from recado.settings import Settings
from recado.tracking.look import Look
from tests.integration.test_settling_letters import all_dying, as_kafka, count, group, letters  # noqa: F401 - fixtures
from tests.integration.test_worker_kafka import scene  # noqa: F401 - a fixture
from tests.programs import eventually, read_all


@pytest.fixture
def http(scene, tmp_path):  # noqa: F811
    settings = Settings(
        bootstrap_servers=scene.bootstrap, group=scene.group, data_dir=tmp_path, spool=False, dead_letters_api=True
    )
    return create_app(settings).test_client()


def ended(http, started) -> dict:
    """Follow a redrive to its end by the place that its answer named."""
    assert started.status_code == 202, started.json
    where = started.headers["Location"]
    eventually(lambda: not http.get(where).json["here"])
    return http.get(where).json


def test_letters_are_listed_shown_redriven_and_discarded(scene, http, topic, monkeypatch):  # noqa: F811
    monkeypatch.chdir(scene.folder)
    name = topic(partitions=2)
    with all_dying(scene, name, 20, keys=3):
        listed = http.get("/dead-letters?letters=3").json
        assert (listed["total"], listed["read"], listed["matched"], len(listed["letters"])) == (20, 20, 20, 3)
        place = listed["letters"][0]["letter"]
        shown = http.get(f"/dead-letters/{place}").json
        assert (shown["error_class"], shown["settled"], shown["source_topic"]) == ("ConnectionError", None, name)
        assert http.get("/dead-letters?key=1&limit=100").json["matched"] < 20
        assert http.post("/dead-letters/redrive", json={"all": True, "dry_run": True}).json["letters"] == 20
        told = ended(http, http.post("/dead-letters/redrive", json={"all": True, "canary": True, "by": "ana"}))
        assert (told["state"], told["ended"], told["redriven"], told["dead_again"], told["by"]) == (
            "stopped", "stopped", 1, 1, "ana",
        )  # fmt: skip
        (scene.folder / "broken").unlink()
        told = ended(http, http.post("/dead-letters/redrive", json={"all": True}))
        assert (told["state"], told["ended"], told["succeeded"], told["dead_again"]) == ("done", "done", 20, 0)
        assert len({row[1:3] for row in scene.journal("done")}) == len(scene.journal("done")) == 20
        listed = http.get("/dead-letters").json
        assert (listed["total"], listed["settled"]) == (0, 21)
        assert http.get(f"/dead-letters/{place}").json["settled"] == "redriven"
        jobs = http.get("/dead-letters/redrives").json["redrives"]
        assert [job["state"] for job in jobs] == ["done", "stopped"]
        assert jobs[0] == http.get(f"/dead-letters/redrives/{jobs[0]['id']}").json


def test_an_edited_letter_goes_back_and_another_is_discarded(scene, http, group):  # noqa: F811
    Admin(Settings(bootstrap_servers=scene.bootstrap)).create_topic(retry_topic(group, scene.topic), partitions=1)
    place = f"dlq.{group}.{scene.topic}/0"
    asked = {"letters": [f"{place}/3"], "value": "better", "follow": False}
    assert ended(http, http.post("/dead-letters/redrive", json=asked))["redriven"] == 1
    assert [message.value() for message in read_all(scene.bootstrap, retry_topic(group, scene.topic))] == [b"better"]
    gone = http.post("/dead-letters/discard", json={"kind": "ValueError", "reason": "refunded", "by": "ana"})
    assert gone.json == {"group": group, "discarded": 5, "complete": True}
    assert http.get("/dead-letters").json["total"] == 4
    [note] = Desk(Settings(bootstrap_servers=scene.bootstrap), group).settled.discards.values()
    assert (note.by, note.reason) == ("ana", "refunded")


def test_a_redrive_is_stopped_within_a_second_wherever_it_runs_and_goes_on_elsewhere(scene, http, group):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)
    Admin(settings).create_topic(retry_topic(group, scene.topic), partitions=1)
    started = http.post("/dead-letters/redrive", json={"all": True, "rate": 2, "follow": False})
    again = http.post("/dead-letters/redrive", json={"all": True})
    assert (again.status_code, again.json["code"]) == (409, "redrive-running")
    assert http.post("/dead-letters/discard", json={"all": True, "reason": "x"}).status_code == 409
    where = started.headers["Location"].partition("?")[0]
    eventually(lambda: http.get(where).json["redriven"] >= 2)
    asked_at = time.monotonic()
    stopped = http.post(f"{where}/stop", json={}).json
    assert time.monotonic() - asked_at < 1.5
    assert (stopped["state"], stopped["here"]) == ("stopped", False)
    # Somebody else goes on with it, and is stopped from here.
    elsewhere = Desk(settings, group)
    job = elsewhere.unfinished()
    assert job is not None
    elsewhere.note(job, state="running")
    assert http.get(where).json["state"] == "running"
    assert http.post(f"{where}/stop", json={}).json["state"] == "stopped"
    resumed = http.post(f"{where}/resume", json={})
    eventually(lambda: http.get(where).json["waiting"] == 10)  # nobody handles them, so it looks on
    assert (resumed.status_code, http.get(where).json["state"]) == (202, "done")
    assert http.post(f"{where}/resume", json={}).json["here"] is True  # it looks on: there is nothing else to do
    asked_at = time.monotonic()
    told = http.post(f"{where}/stop", json={}).json
    assert (time.monotonic() - asked_at < 2, told["here"], told["ended"]) == (True, False, "looked away")
    assert (told["state"], told["redriven"]) == ("done", 10)
    back = read_all(scene.bootstrap, retry_topic(group, scene.topic))
    assert [message.value() for message in back] == [b'{"n": %d}' % number for number in range(10)]


def test_what_is_not_there_is_404_and_creates_nothing(scene, http):  # noqa: F811
    for answer in (
        http.get("/dead-letters/dlq.none.t/0/0"),
        http.get(f"/dead-letters/dlq.{scene.group}.t/0/{10**30}"),
        http.get("/dead-letters/redrives/none"),
        http.post("/dead-letters/redrive?group=made-up", json={"all": True}),
        http.post("/dead-letters/discard?group=made-up", json={"all": True, "reason": "x"}),
        http.post("/dead-letters/redrive?group=made-up", json={"all": True, "dry_run": True}),
        http.post("/dead-letters/redrive", json={"letters": [f"dlq.{scene.group}.t/0/0"]}),
        http.post("/dead-letters/discard", json={"letters": [f"dlq.{scene.group}.t/0/0"], "reason": "x"}),
        http.get("/dead-letters?topic=never-was"),
        http.post("/dead-letters/redrives/none/stop?group=made-up", json={}),
        http.post("/dead-letters/redrives/none/resume?group=made-up", json={}),
    ):
        assert answer.status_code == 404, answer.json
    topics = Admin(Settings(bootstrap_servers=scene.bootstrap)).topic_partitions()
    assert not [name for name in topics if "made-up" in name or name == f"recado.settled.{scene.group}"]
    assert http.get("/dead-letters?group=made-up").json["total"] == 0


def test_the_library_does_the_same_and_the_command_lists_what_was_redriven(scene, group):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)
    Admin(settings).create_topic(retry_topic(group, scene.topic), partitions=1)
    desk = Desk(settings, group)
    redrive = Redrive(desk, desk.begin(Filter(kind="ValueError"), by="ana"))
    assert (redrive.run(follow=False), redrive.count) == ("looked away", 5)
    found = listing(Look(settings), group, Filter(), limit=None, show=2)
    assert (found.total, found.settled, found.read, [kind.count for kind in found.kinds]) == (5, 5, 5, [5])
    assert [line.letter for line in found.letters] == [f"dlq.{group}.{scene.topic}/0/{n}" for n in (9, 7)]
    assert listing(Look(settings), group, Filter(text="bad 3"), limit=None).matched == 0
    assert listing(Look(settings), group, Filter(text='{"n": 7}'), limit=None).matched == 1
    ran = letters(scene, "redrives", "--json")
    [job] = [json.loads(line) for line in ran.out.splitlines()]
    assert (job["state"], job["redriven"], job["by"], job["asked"]) == ("done", 5, "ana", {"kind": "ValueError"})
    assert "kind ValueError" in letters(scene, "redrives").out
