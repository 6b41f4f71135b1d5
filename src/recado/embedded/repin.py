"""Developers' tool: write ``pins/VERSION.txt`` anew with ``python -m recado.embedded.repin VERSION``.

It resolves what the broker and the tools depend on, leaves out what neither reaches (see ``EXCLUDED``), fetches
the rest into a throw-away folder and notes size and SHA-256 of each jar. Read the diff before you commit it:
these sums are all that decides which code may run. Silent when all went well.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from recado.embedded.pins import Pin, render_pins

if TYPE_CHECKING:
    from jgo.maven import Artifact

#: ``group:artifact`` patterns of what no class that the broker or a tool can reach refers to (checked by following
#: the constant pools from every main class): Kafka Connect with its web stack, plug-ins that Jackson, log4j and
#: commons-validator can do without, what only compilers want, and ZooKeeper's own server.
EXCLUDED = (
    "org.apache.kafka:connect-*",
    "org.eclipse.jetty*:*",
    "org.glassfish.*:*",
    "jakarta.*:*",
    "javax.*:*",
    "com.sun.activation:*",
    "com.fasterxml.jackson.jaxrs:*",
    "com.fasterxml.jackson.jakarta.rs:*",
    "com.fasterxml.jackson.module:*",
    "com.fasterxml.jackson.datatype:*",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-yaml",
    "com.thoughtworks.paranamer:*",
    "org.yaml:*",
    "io.swagger.core.v3:*",
    "io.github.classgraph:*",
    "org.reflections:*",
    "org.javassist:*",
    "org.apache.maven:*",
    "org.codehaus.plexus:*",
    "org.jspecify:*",
    "com.google.code.findbugs:*",
    "com.google.errorprone:*",
    "org.apache.yetus:*",
    "org.scala-lang:scala-reflect",
    "org.scala-lang.modules:scala-collection-compat*",
    "commons-beanutils:*",
    "commons-collections:*",
    "commons-digester:*",
    "commons-logging:*",
    "org.apache.commons:commons-lang3",
    "io.netty:*",
)

#: Kafka 3.x brings reload4j with its binding; 4.x brings log4j 2 and leaves the binding to whoever runs it.
BINDING = "org.apache.logging.log4j:log4j-slf4j-impl"
_LOG4J_CORE = "org.apache.logging.log4j:log4j-core"


def _wanted(artifacts: list[Artifact]) -> list[Artifact]:
    names = {artifact: f"{artifact.groupId}:{artifact.artifactId}" for artifact in artifacts}
    return [a for a, name in names.items() if not any(fnmatch(name, pattern) for pattern in EXCLUDED)]


def _resolved(version: str) -> list[Artifact]:
    # Imported here: the resolver is an extra, and this module must be importable without it.
    import jgo

    roots = f"org.apache.kafka:kafka_2.13:{version}+org.apache.kafka:kafka-tools:{version}"
    artifacts = jgo.resolve(roots)
    log4j = next((a.version for a in artifacts if f"{a.groupId}:{a.artifactId}" == _LOG4J_CORE), None)
    if log4j is not None:
        artifacts += [a for a in jgo.resolve(f"{BINDING}:{log4j}") if f"{a.groupId}:{a.artifactId}" == BINDING]
    return artifacts


def _pinned(artifact: Artifact) -> Pin:
    content = Path(artifact.resolve()).read_bytes()
    return Pin(
        group=artifact.groupId,
        artifact=artifact.artifactId,
        version=artifact.version,
        classifier=artifact.classifier,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )


def repin(version: str, target: Path) -> None:
    """Resolve, fetch and write the list of one Kafka version to ``target``. Blocks for about half a minute."""
    # Imported here for the same reason as above.
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as pool:
        context = MavenContext(repo_cache=Path(folder))
        fresh = [
            context.project(a.groupId, a.artifactId).at_version(a.version).artifact(a.classifier)
            for a in _wanted(_resolved(version))
        ]
        pins = list(pool.map(_pinned, fresh))
    target.write_text(
        render_pins(pins, comment=f"Jars of Apache Kafka {version}: coordinates, SHA-256, bytes."), "utf-8"
    )


if __name__ == "__main__":
    repin(sys.argv[1], Path(__file__).parent / "pins" / f"{sys.argv[1]}.txt")
