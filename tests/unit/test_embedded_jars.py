"""Fetching jars: nothing runs that was not verified, an interrupted fetch goes on. The resolver is played."""

import errno
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from jgo.maven import PythonResolver

from recado.embedded import jars
from recado.embedded.pins import Pin
from recado.errors import EmbeddedKafkaError

CONTENTS = {f"jar{i}": f"content of jar {i}".encode() * 100 for i in range(5)}
PINS = tuple(
    Pin("g", name, "1", "", hashlib.sha256(content).hexdigest(), len(content)) for name, content in CONTENTS.items()
)


class Registry:
    """Plays the public one: serves ``contents``, fails as told, and remembers what was asked for."""

    def __init__(self) -> None:
        self.contents = dict(CONTENTS)
        self.failures: dict[str, list[Exception]] = {}
        self.asked: list[str] = []
        self.lock = threading.Lock()

    def download(self, resolver, artifact) -> Path:
        name = artifact.artifactId
        with self.lock:
            self.asked.append(name)
            failure = self.failures.get(name, [])
            error = failure.pop(0) if failure else None
        path = artifact.cached_path
        assert not path.exists(), "the real resolver refuses to overwrite"
        path.parent.mkdir(parents=True, exist_ok=True)
        if error is not None:
            path.write_bytes(b"half a jar")
            raise error
        with resolver.progress_callback(artifact.filename, len(self.contents[name])) as update:
            path.write_bytes(self.contents[name])
            update(len(self.contents[name]))
        return path


@pytest.fixture
def registry(monkeypatch):
    played = Registry()
    monkeypatch.setattr(jars, "read_pins", lambda _: PINS)
    monkeypatch.setattr(PythonResolver, "download", lambda resolver, artifact: played.download(resolver, artifact))
    return played


def fetch(folder: Path) -> list[jars.Progress]:
    seen: list[jars.Progress] = []
    jars.ensure("1", folder, progress=seen.append)
    assert {p.name: p.read_bytes() for p in (folder / "1").glob("*.jar")} == {
        f"{n}-1.jar": c for n, c in CONTENTS.items()
    }
    return seen


def test_every_jar_is_fetched_once_and_counted(tmp_path, registry):
    seen = fetch(tmp_path)
    assert sorted(registry.asked) == sorted(CONTENTS)
    last = [p for p in seen if p.stage == "fetch"][-1]
    assert last.files_done == last.files_total == 5
    assert last.size_done_bytes == last.size_total_bytes == sum(map(len, CONTENTS.values()))
    assert fetch(tmp_path) == []
    assert len(registry.asked) == 5


def test_the_class_path_holds_exactly_the_pinned_jars(tmp_path, registry):
    path = jars.ensure("1", tmp_path)
    assert path == ":".join(str(tmp_path / "1" / pin.filename) for pin in PINS)


def test_a_tampered_jar_is_refused_by_name_and_fetched_again(tmp_path, registry):
    fetch(tmp_path)
    tampered = tmp_path / "1" / "jar3-1.jar"
    tampered.write_bytes(b"x" * tampered.stat().st_size)
    seen = fetch(tmp_path)
    assert [p.detail for p in seen if p.stage == "refused"] == [
        "jar3-1.jar is not the jar that was pinned; it is fetched again"
    ]
    assert registry.asked[5:] == ["jar3"]


def test_a_jar_of_new_times_but_the_pinned_content_is_kept(tmp_path, registry):
    fetch(tmp_path)
    same = tmp_path / "1" / "jar2-1.jar"
    same.write_bytes(same.read_bytes())
    assert [p.stage for p in fetch(tmp_path)] == ["check"]
    assert len(registry.asked) == 5


def test_a_registry_that_serves_another_jar_is_not_believed(tmp_path, registry):
    registry.contents["jar1"] = b"evil"
    with pytest.raises(EmbeddedKafkaError, match="g:jar1:1 was fetched, but is not the jar that was pinned"):
        fetch(tmp_path)
    assert not (tmp_path / "1" / "jar1-1.jar").exists()


def test_an_interrupted_fetch_goes_on_where_it_stopped(tmp_path, registry):
    registry.failures["jar4"] = [requests.ConnectionError("away")] * 3
    with pytest.raises(EmbeddedKafkaError, match="goes on where it stopped") as caught:
        fetch(tmp_path)
    assert "RECADO_BOOTSTRAP_SERVERS" in str(caught.value)
    kept = {path.name.removesuffix("-1.jar") for path in (tmp_path / "1").glob("*.jar")}
    asked_before = len(registry.asked)
    fetch(tmp_path)
    assert set(registry.asked[asked_before:]) == set(CONTENTS) - kept
    assert kept


def test_a_dropped_connection_is_tried_again(tmp_path, registry):
    registry.failures["jar0"] = [requests.ConnectionError("dropped"), RuntimeError("not found")]
    fetch(tmp_path)
    assert registry.asked.count("jar0") == 3


def test_a_full_disk_is_called_that(tmp_path, registry):
    registry.failures["jar0"] = [OSError(errno.ENOSPC, "No space left on device")]
    with pytest.raises(EmbeddedKafkaError, match="is full"):
        fetch(tmp_path)


def test_a_disk_without_room_for_all_of_it_is_not_filled(tmp_path, registry, monkeypatch):
    monkeypatch.setattr(jars.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(EmbeddedKafkaError, match="is full"):
        fetch(tmp_path)
    assert registry.asked == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, registry):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedKafkaError, match="file"):
        jars.ensure("1", tmp_path / "file")


def test_two_at_once_fetch_every_jar_once(tmp_path, registry):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: jars.ensure("1", tmp_path), range(4)))
    assert sorted(registry.asked) == sorted(CONTENTS)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/recado/kafka")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/recado/kafka"),
        ({}, Path.home() / ".cache/recado/kafka"),
    ],
)
def test_the_cache_is_the_users(environment, expected):
    assert jars.default_cache_dir(environment) == expected
