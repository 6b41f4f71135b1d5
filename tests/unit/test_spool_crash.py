"""A kill at every point of a record's way: what was answered 202 is in Kafka or in the spool, and then in Kafka."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from recado.clock import Deadline
from recado.errors import SpoolFailed, SpoolFull
from recado.gateway.api import create_app
from recado.gateway.server import gateway_of
from recado.gateway.spool import reserve
from recado.gateway.spool.folder import Folder
from recado.kafka.abstract import Link
from recado.settings import Settings
from tests.fronts import FakeKafka
from tests.programs import ROOT, eventually
from tests.spool_crash import POINTS
from tests.spools import Kept, Scripted, disk_ids, empty, filled, keep, record, spooling

OWN = [point for point, (_, name, _) in POINTS.items() if name not in ("add", "unlink", "link")]


def run(home: Path, point: str = "", times: int = 1) -> int:
    program = [sys.executable, str(ROOT / "tests" / "spool_crash.py"), str(home), point, str(times)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    return subprocess.run(program, env=environment, timeout=60, check=False).returncode


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("point", OWN)
def test_a_kill_at_any_point_loses_nothing_that_was_answered(tmp_path, point, times):
    assert run(tmp_path, point, times) == -signal.SIGKILL
    answered, kafka = set(lines(tmp_path / "answered")), Counter(lines(tmp_path / "kafka"))
    assert answered <= set(kafka) | set(disk_ids(tmp_path / "spool"))
    assert max(kafka.values(), default=1) == 1  # no copy without a kill in between
    assert run(tmp_path) == 0
    kafka = Counter(lines(tmp_path / "kafka"))
    assert answered <= set(kafka)
    assert disk_ids(tmp_path / "spool") == []
    assert max(kafka.values(), default=1) <= 2
    assert run(tmp_path) == 0
    assert Counter(lines(tmp_path / "kafka")) == kafka


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("point", ["copying", "copied"])
def test_a_kill_while_an_orphan_is_taken_over_loses_nothing(tmp_path, point, times):
    (tmp_path / "spool").mkdir()
    ids = [f"orphan-{n}" for n in range(5)]
    filled(tmp_path / "spool" / "spool-2.db", ids)
    run(tmp_path, point, times)
    assert set(ids) <= set(disk_ids(tmp_path / "spool")) | set(lines(tmp_path / "kafka"))
    assert run(tmp_path) == 0
    kafka = lines(tmp_path / "kafka")
    assert set(ids) <= set(kafka)
    assert [id_ for id_ in dict.fromkeys(kafka) if id_ in ids] == ids
    assert not (tmp_path / "spool" / "spool-2.db").exists()


@pytest.mark.parametrize(("point", "times"), [("setting aside", 1), ("copied", 1), ("copied", 2), ("copying", 7)])
def test_a_kill_during_a_rescue_loses_nothing(tmp_path, point, times):
    path = tmp_path / "spool" / "spool-1.db"
    path.parent.mkdir()
    ids = [f"old-{n}" for n in range(30)]
    filled(path, ids)
    content = bytearray(path.read_bytes())
    content[100:200] = b"\xff" * 100
    path.write_bytes(content)
    run(tmp_path, point, times)
    assert run(tmp_path) == 0
    assert set(ids) <= set(lines(tmp_path / "kafka"))


# --- two processes, and forks --------------------------------------------------------------------------------------


def test_a_killed_owners_spool_is_free_at_once_and_a_living_ones_never(tmp_path):
    filled(tmp_path / "spool-1.db", ["a"])
    code = (
        "import sys, time, pathlib; from recado.gateway.spool.folder import Folder\n"
        "owned = Folder(pathlib.Path(sys.argv[1])).take(); print(owned.store.path.name, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline().strip() == b"spool-1.db"
            owned = Folder(tmp_path).take()
            assert owned.store.path.name == "spool-2.db"
            assert not list(owned.store.rows())
            owned.store.close()
            owned.release()
        finally:
            other.kill()
    owned = Folder(tmp_path).take()
    assert owned.store.path.name == "spool-1.db"
    assert [row.record.id for row in owned.store.rows()] == ["a"]
    owned.store.close()
    owned.release()


def test_a_child_after_a_fork_has_a_spool_of_its_own(tmp_path):
    """In a process of its own: Python warns of forks beside threads, and librdkafka's are in this one."""
    code = """
import os, sys, pathlib, threading
from recado.gateway.api import create_app
from recado.gateway.server import gateway_of
from recado.kafka.abstract import Link
from recado.settings import Settings
from tests.fronts import FakeKafka

kafka = FakeKafka()
kafka.fate = lambda number, record: None
home = pathlib.Path(sys.argv[1])
app = create_app(Settings(data_dir=home), connect=lambda _: Link(kafka, kafka, lambda: kafka))
client = app.test_client()

def send(id_):
    answer = client.post("/send", json={"message": "x", "id": id_}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.data

send("parent-1")
assert gateway_of(app).intake.spool.path.name == "spool-1.db"
child = os.fork()
if not child:
    send("child")
    assert gateway_of(app).intake.spool.path.name == "spool-2.db"
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
send("parent-2")
os._exit(0)  # as a kill: nothing is closed
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert sorted(disk_ids(tmp_path / "spool")) == ["child", "parent-1", "parent-2"]
    owned = Folder(tmp_path / "spool").take()
    assert [row.record.id for row in owned.store.rows()] == ["parent-1", "parent-2", "child"]
    owned.store.close()
    owned.release()


def test_a_gateway_that_could_not_connect_leaves_its_spool_free(tmp_path):
    kafka, tries = FakeKafka(), []

    def connect(settings):
        tries.append(1)
        if len(tries) < 3:
            raise SpoolFailed("not yet")
        return Link(kafka, kafka, lambda: kafka)

    app = create_app(Settings(data_dir=tmp_path), connect=connect)
    client = app.test_client()
    assert [client.post("/send", json={"message": 1}).status_code for _ in range(3)] == [503, 503, 200]
    assert [path.name for path in (tmp_path / "spool").glob("*.db")] == ["spool-1.db"]
    gateway_of(app).close(Deadline(1))


# --- a disk that is full -------------------------------------------------------------------------------------------


@pytest.fixture
def small_files(tmp_path):
    """No file may grow beyond a limit that the test sets."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_cannot_grow_is_503_and_goes_on_when_it_can(tmp_path, small_files):
    kafka = Scripted()
    with spooling(tmp_path, kafka) as spool:
        keep(spool, "a", asked=True)
        small_files(200_000)
        refused = Kept(spool, [record("big", value=b"x" * 500_000)], asked=True).wait()
        assert isinstance(refused.keeping.error, SpoolFailed | SpoolFull)
        small_files(resource.RLIM_INFINITY)
        eventually(lambda: not spool.why_not())
        keep(spool, "b", asked=True)
        eventually(lambda: len(kafka.waiting) == 2)
        kafka.confirm()
        empty(spool)
    assert kafka.ids() == ["a", "b"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_the_spool_itself_has_filled_empties_and_recovers(small_disk, monkeypatch):
    monkeypatch.setattr(reserve, "SIZE_BYTES", 131_072)
    kafka = Scripted()
    with spooling(small_disk / "spool", kafka) as spool:
        accepted, refused = [], None
        for number in range(400):
            kept = Kept(spool, [record(f"{number}", value=b"x" * 300)], asked=True).wait()
            if kept.keeping.error is not None:
                refused = kept.keeping.error
                break
            accepted.append(f"{number}")
        assert isinstance(refused, SpoolFull)
        assert accepted
        eventually(lambda: len(kafka.waiting) == len(accepted))
        kafka.confirms = True
        kafka.confirm()
        empty(spool)
        eventually(lambda: not spool.why_not())
        assert Kept(spool, [record("again")], asked=True).wait().keeping.is_kept
        empty(spool)
        assert list((small_disk / "spool").glob("*.reserve"))
    assert kafka.ids() == [*accepted, "again"]
    with spooling(small_disk / "spool", kafka) as spool:
        assert spool.depth().rows == 0


def test_a_full_disk_at_the_start_lets_what_is_there_go_on(small_disk):
    folder = small_disk / "spool"
    folder.mkdir()
    filled(folder / "spool-1.db", ["a", "b"])
    for name in ("spool-1.lock",):
        (folder / name).touch()
    kafka = Scripted(confirms=True)
    filler = small_disk / "filler"
    # Room for the shared memory of the log, and no more.
    with filler.open("wb") as file:
        room = os.statvfs(small_disk)
        file.write(b"x" * (room.f_bavail * room.f_frsize - 40_960))
    before = set(threading.enumerate())
    with spooling(folder, kafka) as spool:
        eventually(lambda: len(kafka.sent) >= 2)
        assert kafka.ids()[:2] == ["a", "b"]
        kept = Kept(spool, [record("c", value=b"x" * 60_000)], asked=True).wait()
        assert isinstance(kept.keeping.error, SpoolFull)
        filler.unlink()
        empty(spool)
    assert len(set(threading.enumerate()) - before) < 10
