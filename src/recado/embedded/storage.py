"""A broker's folder: its configuration files, and its storage formatted once."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from recado.embedded import server_log
from recado.embedded.cluster import Cluster
from recado.embedded.config import (
    Node,
    Security,
    log4j_1_config,
    log4j_2_config,
    render_properties,
    server_properties,
)
from recado.embedded.launch import Runtime
from recado.errors import ConfigurationError, EmbeddedKafkaError

__all__ = ["BrokerFolder", "format_storage", "require_expressible", "write_files"]

#: `format` takes under a second; this is for a machine that swaps.
_TIMEOUT_S = 120.0

#: What can stand in ``--add-scram`` without its grammar of commas and brackets.
_SCRAM_WORD = re.compile(r"[^\s,=\[\]\"'\\]+\Z")


class BrokerFolder:
    """Where one broker keeps what: names only, nothing is touched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.properties = path / "server.properties"
        self.log = path / "server.log"
        self.log_config = path / "log4j.properties"
        self.pid_file = path / "broker.pid"
        self.data = path / "data"
        self.keystore = path / "keystore.pem"

    @property
    def formatted(self) -> bool:
        """Tell whether the storage was formatted; Kafka writes this file last."""
        return (self.data / "meta.properties").exists()


def require_expressible(security: Security) -> None:
    """Raise ConfigurationError, which does not show it, for a user or password that ``format`` cannot take."""
    for user, password in security.users.items():
        if not (_SCRAM_WORD.match(user) and _SCRAM_WORD.match(password)):
            raise ConfigurationError(
                f"User {user!r}: name and password must not hold blanks, commas, =, [], quotes or \\."
            )


def write_files(
    folder: BrokerFolder,
    node: Node,
    cluster: Cluster,
    *,
    security: Security | None,
    properties: Mapping[str, str] | None,
    log4j_1: bool,
) -> None:
    """Write what the broker reads at its start, anew each time: ports and certificates may have changed."""
    folder.path.mkdir(parents=True, exist_ok=True)
    values = server_properties(
        node, cluster.nodes, host=cluster.host, folder=folder.path, security=security, properties=properties
    )
    _write_private(folder.properties, render_properties(values))
    log_config = log4j_1_config if log4j_1 else log4j_2_config
    folder.log_config.write_text(log_config(level="INFO", stream="out"), "utf-8")
    if security is not None:
        _write_private(folder.keystore, security.private_key_pem.read_text() + security.certificate_pem.read_text())


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=True)
    path.write_text(text, "ascii")


def format_storage(
    folder: BrokerFolder, cluster_id: str, runtime: Runtime, *, users: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    """Format the storage with Kafka's own tool; blocks for about 0.6 s. Raises EmbeddedKafkaError with its words.

    SCRAM users can only be given on the tool's command line, where other users of this machine could see them
    for that moment.
    """
    arguments = ["format", "--cluster-id", cluster_id, "--config", str(folder.properties)]
    for user, password in users.items():
        arguments += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
    command = runtime.tool("kafka.tools.StorageTool", arguments, folder.log_config)
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=folder.path,
            env=dict(environment),
            errors="replace",
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedKafkaError(f"Formatting {folder.data} took more than {_TIMEOUT_S:.0f} s; start again.") from error
    if answer.returncode != 0:
        raise EmbeddedKafkaError(_failure(folder, (answer.stdout + answer.stderr).splitlines()))


def _failure(folder: BrokerFolder, lines: list[str]) -> str:
    if any(server_log.DISK_FULL in line for line in lines):
        return f"The disk that holds {folder.data} is full: make room and start again."
    return f"Kafka's storage in {folder.data} could not be formatted:\n" + "\n".join(server_log.explain(lines))
