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


#: A tool's standard output is the user's: what the JVM has to say (about an archive that no longer fits) is not.
_QUIET = ("-Xlog:disable", "-Xlog:all=error:stderr")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Java, the verified jars of one Kafka version, and an archive of their classes if there is one."""

    java: Java
    version: str
    class_path: str
    archive: Path | None = None

    @property
    def logs_with_log4j_1(self) -> bool:
        """Kafka 3 logs with log4j 1's configuration, Kafka 4 with log4j 2's."""
        return self.version.startswith("3.")

    def broker(self, properties: Path, log_config: Path, *, class_list: Path | None = None) -> list[str]:
        """The command of a broker; it writes down the classes that it loads, if it is told where."""
        flags = _BROKER_FLAGS if class_list is None else (*_BROKER_FLAGS, f"-XX:DumpLoadedClassList={class_list}")
        return self._command(flags, log_config, "kafka.Kafka", [str(properties)])

    def tool(self, main_class: str, arguments: Sequence[str], log_config: Path, *, heavy: bool = False) -> list[str]:
        """The command of one of Kafka's own tools; ``heavy`` for one that moves many records."""
        flags = _BROKER_FLAGS if heavy else _TOOL_FLAGS
        return self._command((*flags, *_QUIET), log_config, main_class, arguments)

    def dump(self, class_list: Path, archive: Path) -> list[str]:
        """The command that makes an archive; its flags must fit those of a broker."""
        flags = ["-Xshare:dump", f"-XX:SharedClassListFile={class_list}", f"-XX:SharedArchiveFile={archive}"]
        return [str(self.java.path), *flags, _MAX_HEAP, "-XX:+UseSerialGC", "-cp", self.class_path]

    def _command(self, flags: Sequence[str], log_config: Path, main_class: str, arguments: Sequence[str]) -> list[str]:
        key = "log4j.configuration" if self.logs_with_log4j_1 else "log4j2.configurationFile"
        logging = f"-D{key}={log_config.absolute().as_uri()}"
        shared = [] if self.archive is None else ["-Xshare:auto", f"-XX:SharedArchiveFile={self.archive}"]
        return [str(self.java.path), *flags, *shared, logging, "-cp", self.class_path, main_class, *arguments]
