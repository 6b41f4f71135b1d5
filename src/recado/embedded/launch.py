"""The command lines that run Kafka on the JVM, with flags whose effect was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recado.embedded.java import Java

__all__ = ["Runtime"]

#: Enough for tests and development; the resident size stays below 400 MB.
_MAX_HEAP = "-Xmx512m"

#: Measured on two cores (Kafka 4.3.1, Java 17): against the JVM's defaults the serial collector starts a broker
#: 0.1-0.2 s sooner, and has no threads that compete with the programs under test.
_BROKER_FLAGS = (_MAX_HEAP, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")

#: A tool lives for a second: with the first compiler only, `format` takes 0.6 s instead of 0.8 s.
_TOOL_FLAGS = (_MAX_HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Java and the verified jars of one Kafka version."""

    java: Java
    version: str
    class_path: str

    @property
    def logs_with_log4j_1(self) -> bool:
        """Kafka 3 logs with log4j 1's configuration, Kafka 4 with log4j 2's."""
        return self.version.startswith("3.")

    def broker(self, properties: Path, log_config: Path) -> list[str]:
        """The command of a broker."""
        return self._command(_BROKER_FLAGS, log_config, "kafka.Kafka", [str(properties)])

    def tool(self, main_class: str, arguments: Sequence[str], log_config: Path) -> list[str]:
        """The command of one of Kafka's own tools."""
        return self._command(_TOOL_FLAGS, log_config, main_class, arguments)

    def _command(self, flags: Sequence[str], log_config: Path, main_class: str, arguments: Sequence[str]) -> list[str]:
        key = "log4j.configuration" if self.logs_with_log4j_1 else "log4j2.configurationFile"
        logging = f"-D{key}={log_config.absolute().as_uri()}"
        return [str(self.java.path), *flags, logging, "-cp", self.class_path, main_class, *arguments]
