"""`recado dead-letters redrive` and `discard` on a real Kafka, with workers that take back what comes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaException

from recado.errors import TakenOver
from recado.kafka.admin import Admin
from recado.letters.desk import Desk, ends_of, found
from recado.letters.filter import Filter
from recado.outcomes.group_topics import retry_topic
from recado.record import TopicPartition
from recado.settings import Settings
from tests.command import recado
from tests.integration.test_dead_letters_command import bury
from tests.integration.test_worker_kafka import scene  # noqa: F401 - a fixture
from tests.programs import eventually, read_all

#: Fails for ever while there is a file of this name; then is glad.
HANDLER = """
import pathlib
@worker.handler(concurrency=4, retry=None)
def handle(record: Record) -> None:
    if pathlib.Path("broken").exists() and record.text() != "fine":
        raise ConnectionError("the bank is away")
    note("done", record)
    note("value-" + record.text(), record)
"""


@pytest.fixture
def group(scene, topic, monkeypatch):  # noqa: F811
    """A group with ten dead letters of two kinds in one topic."""
    monkeypatch.chdir(scene.folder)
    scene.topic = topic(partitions=1)
    bury(scene, scene.group, scene.topic, 10)
    return scene.group


@pytest.fixture(autouse=True)
def as_kafka(monkeypatch):
    """``bury`` asks for it by the name that a Kafka has."""
    from tests.integration.test_worker_kafka import Scene

    monkeypatch.setattr(Scene, "bootstrap_servers", property(lambda self: self.bootstrap), raising=False)


def count(scene, topic: str) -> int:  # noqa: F811
    """How many dead letters a topic has; a young one has no leader yet."""
    try:
        return len(read_all(scene.bootstrap, f"dlq.{scene.group}.{topic}"))
    except KafkaException:
        return 0


def letters(scene, *words: str):  # noqa: F811
    return recado("dead-letters", *words, "--group", scene.group, "--bootstrap-servers", scene.bootstrap)


@contextmanager
def all_dying(scene, topic: str, records: int, *, keys: int):  # noqa: F811
    """A worker, while each of so many records has become a dead letter."""
    (scene.folder / "broken").touch()
    scene.send(topic, records, keys=keys)
    with scene.worker(HANDLER, topic) as program:
        eventually(lambda: count(scene, topic) == records, why=lambda: program.log)
        yield


def listed(scene) -> dict:  # noqa: F811
    return json.loads(letters(scene, "list", "--json").out)


def test_what_is_redriven_comes_back_once_in_order_and_is_followed_to_its_end(scene, topic, monkeypatch):  # noqa: F811
    monkeypatch.chdir(scene.folder)
    name = topic(partitions=2)
    with all_dying(scene, name, 20, keys=3):
        assert listed(scene)["total"] == 20
        assert letters(scene, "redrive", "--all", "--dry-run").out.strip() == (
            f"20 letters of group {scene.group} are meant."
        )
        ran = letters(scene, "redrive", "--all", "--canary")
        assert (ran.code, "1 dead again" in ran.err) == (1, True), ran.err
        assert "--resume" in ran.err
        assert listed(scene)["total"] == 20  # one is settled, and another one is there for it
        (scene.folder / "broken").unlink()
        ran = letters(scene, "redrive", "--resume")
        assert ran.code == 0, ran.err
        ran = letters(scene, "redrive", "--all")
        assert (ran.code, "1 done, 0 dead again" in ran.err) == (0, True), ran.err
        assert (listed(scene)["total"], listed(scene)["settled"]) == (0, 21)
        done = scene.journal("done")
        assert len(done) == len({row[1:3] for row in done}) == 20
        for key in "012":
            offsets = [row[2] for row in done[:-1] if row[3] == key]  # the last is the canary, which died twice
            assert offsets == sorted(offsets)
        ran = letters(scene, "redrive", "--all")
        assert (ran.code, "Redrove 0 letters" in ran.err) == (0, True)
        assert len(scene.journal("done")) == 20
        books = recado("verify", "--group", scene.group, "--json", "--bootstrap-servers", scene.bootstrap)
        assert (books.code, json.loads(books.out)["total"]["done"]) == (0, 20)


def test_a_letter_with_another_value_keeps_its_id_and_the_original_stays(scene, topic, monkeypatch):  # noqa: F811
    monkeypatch.chdir(scene.folder)
    name = topic(partitions=1)
    with all_dying(scene, name, 1, keys=1):
        (scene.folder / "better").write_bytes(b"fine")
        ran = letters(scene, "redrive", f"dlq.{scene.group}.{name}/0/0", "--value", "better")
        assert ran.code == 0, ran.err
        assert scene.journal("value-fine") == [(name, 0, 0, "0", 1)]
    assert read_all(scene.bootstrap, f"dlq.{scene.group}.{name}")[0].value() == b"x"


def test_what_is_discarded_is_gone_from_every_list_and_it_is_known_who_did_it(scene, group, tmp_path):  # noqa: F811
    Admin(Settings(bootstrap_servers=scene.bootstrap)).create_topic("orders-none", partitions=1)
    kind = "ValueError"
    ran = letters(scene, "discard", "--kind", kind, "--reason", "refunded by hand", "--by", "ana", "--yes")
    assert (ran.code, "Discarded 5 letters" in ran.err) == (0, True), ran.err
    assert [entry["count"] for entry in listed(scene)["kinds"]] == [5]
    [note] = Desk(Settings(bootstrap_servers=scene.bootstrap), group).settled.discards.values()
    assert (note.by, note.reason, note.letters) == ("ana", "refunded by hand", 5)
    assert note.first[0] == f"dlq.{group}.{scene.topic}/0/0"
    assert letters(scene, "redrive", "--all", "--dry-run").out.startswith("5 letters")
    assert letters(scene, "discard", "--reason", "x").code == 2
    assert letters(scene, "redrive", "nonsense").code == 2


def test_what_is_settled_is_shown_so_and_does_not_hide_what_is_not(scene, group):  # noqa: F811
    place = f"dlq.{group}.{scene.topic}/0"
    of = ["--bootstrap-servers", scene.bootstrap]

    def shown(offset: int) -> tuple[str | None, bool]:
        letter = ["dead-letters", "show", f"{place}/{offset}", *of]
        return recado(*letter, "--json").json["settled"], "settled  " in recado(*letter).out

    assert letters(scene, "discard", f"{place}/8", "--reason", "x", "--yes").code == 0
    assert letters(scene, "redrive", f"{place}/9", "--no-follow").code == 0
    assert [shown(offset) for offset in (7, 8, 9)] == [(None, False), ("discarded", True), ("redriven", True)]
    ran = letters(scene, "list", "--limit", "2")
    assert "8 dead letters" in ran.err
    assert "What was read is settled" in ran.out + ran.err
    assert "has none" not in ran.out + ran.err


def test_who_begins_later_takes_over_and_nothing_is_redriven_twice(scene, group):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)
    Admin(settings).create_topic(retry_topic(group, scene.topic), partitions=1)
    first = Desk(settings, group)
    job = first.begin(Filter(), "ana")
    batch = list(found(first.look, group, Filter(), dict(job.ends)))
    job = first.redrive(job, batch[:4])
    second = Desk(settings, group)
    with pytest.raises(TakenOver):
        first.redrive(job, batch[4:])
    left = second.unfinished()
    assert left is not None
    assert (left.id, left.redriven) == (job.id, 4)
    rest = list(found(second.look, group, Filter(), dict(left.ends)))
    assert [one.at[1] for one in rest] == [4, 5, 6, 7, 8, 9]
    second.note(second.redrive(left, rest), state="done")
    back = read_all(scene.bootstrap, retry_topic(group, scene.topic))
    assert [message.value() for message in back] == [b'{"n": %d}' % number for number in range(10)]
    assert Desk(settings, group).unfinished() is None


def test_100_000_scattered_letters_are_settled_one_by_one(scene, group):  # noqa: F811
    """More than any offset map holds; the topic is compacted, so only its newest bitmaps count."""
    settings = Settings(bootstrap_servers=scene.bootstrap)
    where = TopicPartition(f"dlq.{group}.{scene.topic}", 0)
    eventually(lambda: where.topic in Admin(settings).topic_ids([where.topic]))
    desk = Desk(settings, group)
    offsets = range(0, 300_000, 3)
    records = [record for at in range(0, 100_000, 5_000) for record in desk.settled.settle(
        [(where, offset) for offset in offsets[at : at + 5_000]], "discarded")]  # fmt: skip
    desk._writer.write(records)
    again = Desk(settings, group).settled
    assert again.count(where.topic) == {"redriven": 0, "discarded": 100_000}
    assert again.of(where.topic, 0, 299_997) == "discarded"
    assert again.of(where.topic, 0, 299_998) is None
    assert ends_of(desk.look, group) == {f"{where.topic}/0": 10}


def test_a_dead_letter_topic_that_is_made_anew_has_nothing_settled(scene, group):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)
    name = f"dlq.{group}.{scene.topic}"
    assert letters(scene, "discard", "--all", "--reason", "x", "--yes").code == 0
    assert listed(scene)["total"] == 0
    admin = Admin(settings)
    admin.client.delete_topics([name])[name].result(20)
    eventually(lambda: name not in admin.topic_partitions())
    bury(scene, group, scene.topic, 3)
    assert listed(scene)["total"] == 3


def test_ctrl_c_stops_a_redrive_between_two_batches_and_it_goes_on_elsewhere(scene, group):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)
    Admin(settings).create_topic(retry_topic(group, scene.topic), partitions=1)
    process = redriving(scene, "--all", "--rate", "2", "--no-follow")
    eventually(lambda: len(read_all(scene.bootstrap, retry_topic(group, scene.topic))) >= 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, "--resume" in said) == (3, True), said
    assert letters(scene, "redrive", "--resume", "--no-follow").code == 0
    back = read_all(scene.bootstrap, retry_topic(group, scene.topic))
    assert [message.value() for message in back] == [b'{"n": %d}' % number for number in range(10)]


def test_a_redrive_may_try_out_the_rest_when_it_is_resumed(scene, group):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)
    desk = Desk(settings, group)
    job = desk.begin(Filter(), "ana")
    desk.redrive(job, list(found(desk.look, group, Filter(), dict(job.ends)))[:4])
    (scene.folder / "broken").touch()
    with scene.worker(HANDLER, scene.topic):
        ran = letters(scene, "redrive", "--resume", "--canary")
        assert (ran.code, "Stopped after 4 letters" in ran.err) == (1, True), ran.err
        ran = letters(scene, "redrive", "--resume")
        assert (ran.code, "Stopped after 5 letters" in ran.err) == (1, True), ran.err


def test_a_letter_that_does_not_tell_where_it_stood_comes_back_as_it_is(scene, topic, monkeypatch):  # noqa: F811
    monkeypatch.chdir(scene.folder)
    name = topic(partitions=1)
    letter_topic = f"dlq.{scene.group}.{name}"
    Admin(Settings(bootstrap_servers=scene.bootstrap)).create_topic(letter_topic, partitions=1)
    scene.send(letter_topic, 1, keys=1)
    with scene.worker(HANDLER, name) as program:
        ran = letters(scene, "redrive", f"{letter_topic}/0/0")
        assert ran.code == 0, ran.err
        eventually(lambda: len(scene.journal("done")) == 1, why=lambda: program.log)


def test_what_cannot_be_settled_is_named_and_leaves_no_trace(scene, group):  # noqa: F811
    topic = f"dlq.{group}.{scene.topic}"
    assert letters(scene, "discard", f"{topic}/0/1", "--reason", "seen", "--yes").code == 0
    assert letters(scene, "redrive", f"{topic}/0/2", "--no-follow").code == 0
    before = len(letters(scene, "redrives", "--json").out.splitlines())
    for place, why in (
        (f"{topic}/0/1", "is discarded already"),
        (f"{topic}/0/2", "is redriven already"),
        (f"{topic}/0/4711", "is no dead letter of group"),
        (f"{topic}/7/0", "is no dead letter of group"),
        (f"{scene.topic}/0/0", "is no dead letter of group"),
        (f"none-{topic}/0/0", "is no dead letter of group"),
    ):
        for words in (["redrive"], ["discard", "--reason", "x", "--yes"]):
            ran = letters(scene, *words, place, *([] if "already" in why else [f"{topic}/0/3"]))
            assert (ran.code, f"{place} {why}" in ran.err, "Nothing was done" in ran.err) == (1, True, True), ran.err
    assert listed(scene)["total"] == 8
    assert len(letters(scene, "redrives", "--json").out.splitlines()) == before
    assert f"letters {topic}/0/2" in letters(scene, "redrives").out
    assert letters(scene, "redrive", f"{topic}/0/1", "--dry-run").code == 1
    ran = letters(scene, "discard", f"{topic}/0/1", f"{topic}/0/4", "--reason", "the same again", "--yes")
    assert (ran.code, "Discarded 1 letters" in ran.err) == (0, True), ran.err
    ran = letters(scene, "redrive", f"{topic}/000/0003", "--dry-run")
    assert (ran.code, ran.out.split()[0]) == (0, "1"), ran.err
    scene.send(scene.topic, 1, keys=1)  # of no group: a record is no letter, wherever it lies
    assert "is no dead letter" in letters(scene, "redrive", f"{scene.topic}/0/0").err
    for words in (["list"], ["redrive"], ["redrive", "--dry-run"], ["discard", "--reason", "x", "--yes"]):
        ran = letters(scene, *words, "--topic", "never-was")
        assert (ran.code, "topic never-was does not exist" in ran.err) == (1, True), ran.err
    made_up = recado("dead-letters", "redrive", "--all", "--group", "made-up", "--bootstrap-servers", scene.bootstrap)
    assert (made_up.code, "group made-up has no dead letters" in made_up.err) == (1, True)
    settings = Settings(bootstrap_servers=scene.bootstrap)
    assert "recado.settled.made-up" not in Admin(settings).topic_partitions()


def test_what_becomes_of_letters_is_counted_when_it_is_asked_for(scene, topic, monkeypatch):  # noqa: F811
    monkeypatch.chdir(scene.folder)
    name = topic(partitions=1)
    with all_dying(scene, name, 3, keys=1):
        pass
    (scene.folder / "broken").unlink()
    place = f"dlq.{scene.group}.{name}/0"
    assert letters(scene, "redrive", f"{place}/0", f"{place}/1", "--no-follow").code == 0

    def counts() -> list[list[int]]:
        jobs = [json.loads(line) for line in letters(scene, "redrives", "--json").out.splitlines()]
        return [[job["redriven"], job["succeeded"], job["dead_again"], job["waiting"]] for job in jobs]

    assert counts() == [[2, 0, 0, 2]]
    with scene.worker(HANDLER, name) as program:
        eventually(lambda: counts() == [[2, 2, 0, 0]], why=lambda: program.log)
    process = redriving(scene, "--all")  # nobody handles it now
    eventually(lambda: len(counts()) == 2 and counts()[0] == [1, 0, 0, 1])
    eventually(lambda: recado_state(scene) == "done")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, "0 done, 0 dead again so far; the group goes on with the other 1" in said) == (3, True)
    assert counts() == [[1, 0, 0, 1], [2, 0, 0, None]]
    assert "not followed" in letters(scene, "redrives").out


def test_who_is_taken_over_hears_it_and_how_to_go_on(scene, group):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)
    Admin(settings).create_topic(retry_topic(group, scene.topic), partitions=1)
    process = redriving(scene, "--all", "--rate", "2", "--no-follow")
    eventually(lambda: len(read_all(scene.bootstrap, retry_topic(group, scene.topic))) >= 2)
    Desk(settings, group)
    _, said = process.communicate(timeout=20)
    sentence = "recado: another program settles dead letters of this group now, so this one has stopped."
    first, second = said.splitlines()
    assert (process.returncode, first, "redrive --resume" in second) == (3, sentence, True)


def test_who_discards_and_is_taken_over_hears_it(scene, group, monkeypatch):  # noqa: F811
    settings = Settings(bootstrap_servers=scene.bootstrap)

    def confirm(*_: object, **__: object) -> bool:
        return bool(Desk(settings, group))  # meanwhile another one begins

    monkeypatch.setattr("click.confirm", confirm)
    ran = letters(scene, "discard", "--all", "--reason", "x")
    assert (ran.code, "another program settles" in ran.err, "Stopped after 0 letters" in ran.err) == (3, True, True)
    assert listed(scene)["total"] == 10


def redriving(scene, *words: str) -> subprocess.Popen[str]:  # noqa: F811
    """A redrive in a process of its own; what it says is on stderr."""
    command = [sys.executable, "-m", "recado", "dead-letters", "redrive", *words]
    of = ["--group", scene.group, "--bootstrap-servers", scene.bootstrap]
    return subprocess.Popen([*command, *of], cwd=scene.folder, stderr=subprocess.PIPE, text=True)


def recado_state(scene) -> str:  # noqa: F811
    """How the newest redrive is."""
    return str(json.loads(letters(scene, "redrives", "--json").out.splitlines()[0])["state"])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["redrive", "--all", "--rate", "nan"], "--rate"),
        (["redrive", "--all", "--rate", "inf"], "--rate"),
        (["redrive", "--all", "--rate", "0"], "--rate"),
        (["redrive", "--all", "dlq.g.t/0/1"], "--all"),
        (["redrive", "dlq.g.t/0/99999999999999999999"], "TOPIC/PARTITION/OFFSET"),
        (["redrive", "--resume", "--dry-run"], "--dry-run"),
        (["redrive", "--resume", "--value", __file__], "--value"),
        (["show", "dlq.g.t/0/99999999999999999999"], "TOPIC/PARTITION/OFFSET"),
        (["show", "dlq.g.t/9999999999/0"], "TOPIC/PARTITION/OFFSET"),
        (["list", "--since", "1h", "--until", "2h"], "--since"),
        (["list", "--text", "\udcff"], "--text"),
        (["list", "--kind", "\udcff"], "--kind"),
        (["redrive", "--key", "\udcff"], "--key"),
        (["redrive", "--all", "--by", "\udcff"], "--by"),
        (["discard", "--all", "--reason", "\udcff"], "--reason"),
        (["discard", "--all", "--reason", " ", "--dry-run"], "--reason"),
        (["discard", "--all", "--reason", "x" * 4_001], "--reason"),
        (["discard", "--all", "--reason", "x", "--by", "x" * 501], "--by"),
        (["redrive", "--all", "--by", "x" * 501], "--by"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(words, what):
    ran = recado("dead-letters", *words, "--bootstrap-servers", "127.0.0.1:1")
    assert (ran.code, what in ran.err) == (2, True), ran.err
