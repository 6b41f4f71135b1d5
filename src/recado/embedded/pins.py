"""The pinned jars of each Kafka version: coordinates, SHA-256 sum and size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from recado.errors import ConfigurationError, EmbeddedKafkaError

__all__ = ["VERSIONS", "Pin", "parse_pins", "read_pins", "render_pins"]

#: Versions with a list in ``pins/``, newest first: a current one, and the last line that still speaks to
#: clients older than Kafka 2.1.
VERSIONS = ("4.3.1", "3.9.1")

_LINE = re.compile(
    r"(?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+)(?::(?P<classifier>[\w.-]+))?"
    r" (?P<sha256>[0-9a-f]{64}) (?P<size_bytes>[1-9][0-9]*)\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """One jar that may run: where it is published, and what its bytes must be."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    size_bytes: int

    @property
    def filename(self) -> str:
        """The file's name in the jar folder."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.jar"

    @property
    def coordinates(self) -> str:
        """``group:artifact:version[:classifier]``."""
        classifier = f":{self.classifier}" if self.classifier else ""
        return f"{self.group}:{self.artifact}:{self.version}{classifier}"


def parse_pins(text: str, *, source: str) -> tuple[Pin, ...]:
    """Read a list: ``coordinates sha256 size_bytes`` a line, ``#`` comments, no file name twice.

    Raises EmbeddedKafkaError that names ``source`` and the line.
    """
    pins: dict[str, Pin] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise EmbeddedKafkaError(f"{source}, line {number} is no pin: {line!r}. Install recado again.")
        group, artifact, version, classifier, sha256, size = match.groups(default="")
        pin = Pin(group, artifact, version, classifier, sha256, int(size))
        if pin.filename in pins:
            raise EmbeddedKafkaError(f"{source}, line {number}: {pin.filename} is there twice. Install recado again.")
        pins[pin.filename] = pin
    return tuple(pins.values())


def read_pins(version: str) -> tuple[Pin, ...]:
    """Return the jars of a Kafka version. Raises ConfigurationError for a version without a list."""
    if version not in VERSIONS:
        raise ConfigurationError(f"Kafka {version!r} is not on offer; kafka_version may be {' or '.join(VERSIONS)}.")
    name = f"{version}.txt"
    text = files("recado.embedded").joinpath("pins", name).read_text("utf-8")
    return parse_pins(text, source=f"pins/{name}")


def render_pins(pins: Iterable[Pin], *, comment: str) -> str:
    """Write a list that ``parse_pins`` reads back to the same pins, sorted."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"{pin.coordinates} {pin.sha256} {pin.size_bytes}" for pin in sorted(pins)]
    return "\n".join(lines) + "\n"
