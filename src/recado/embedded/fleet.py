"""The processes of a cluster's brokers: prepared, launched, watched until they answer, and ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from recado.embedded import process, server_log, wire
from recado.embedded.cluster import Cluster
from recado.embedded.config import Node, Security
from recado.embedded.launch import Runtime
from recado.embedded.process import Process
from recado.embedded.progress import Progress, ProgressCallback
from recado.embedded.status import BrokerStatus
from recado.embedded.storage import BrokerFolder, format_storage, write_files
from recado.errors import EmbeddedKafkaError

__all__ = ["Fleet"]

#: From launch to an answer: one to three seconds here, so this is for a machine that is very busy.
_READY_TIMEOUT_S = 90.0

#: How often a starting broker is asked; a question costs a millisecond.
_POLL_S = 0.02

#: A killed process is gone at once, unless the disk holds it.
_KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Launched:
    node: Node
    process: Process
    log_start_bytes: int


class Fleet:
    """The brokers whose files are under ``folder``; every method takes the ones that it is about."""

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str],
        security: Security | None,
        properties: Mapping[str, str] | None,
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._security = security
        self._properties = properties

    def process(self, node: Node) -> Process | None:
        """Return the broker's process; None when it does not run."""
        return process.load(self._files(node).pid_file)

    def holds_data(self, cluster: Cluster) -> bool:
        """Tell whether any broker's storage was formatted."""
        return any(self._files(node).formatted for node in cluster.nodes)

    def look(self, cluster: Cluster, node: Node) -> BrokerStatus:
        """Look at one broker's process and ask it; blocks for two seconds when it is silent."""
        running = self.process(node)
        address = f"{cluster.host}:{node.port}"
        log = self._files(node).log
        if running is None:
            return BrokerStatus(node.id, address, "stopped", None, log)
        answers = wire.answers(wire.Address(node.plain_port))
        return BrokerStatus(node.id, address, "answering" if answers else "silent", running.pid, log)

    def signal(self, node: Node, signum: signal.Signals) -> None:
        """Send a signal to one broker. Raises EmbeddedKafkaError when it does not run."""
        running = self.process(node)
        if running is None or not running.send(signum):
            raise EmbeddedKafkaError(
                f"Broker {node.id} does not run, so it cannot be sent {signum.name}; start it first."
            )

    def launch(
        self,
        cluster: Cluster,
        nodes: Sequence[Node],
        runtime: Runtime,
        *,
        leashed: bool,
        progress: ProgressCallback,
        class_list: Path | None = None,
    ) -> None:
        """Write the files of ``nodes``, format what is not, start them and block until they answer and take part.

        The first of them writes the names of the classes it loads to ``class_list``, if there is one.
        Raises EmbeddedKafkaError, and ends what it started, when one of them dies or does not answer in time.
        """
        self._prepare(cluster, nodes, runtime, progress)
        started: list[_Launched] = []
        try:
            for node in nodes:
                progress(Progress("start", f"broker {node.id} on port {node.port}"))
                trainee = class_list if node is nodes[0] else None
                started.append(self._spawn(node, runtime, leashed=leashed, class_list=trainee))
            self.await_ready(cluster, nodes, started)
        except BaseException:
            self.end([launched.node for launched in started], timeout_s=0)
            raise

    def _prepare(self, cluster: Cluster, nodes: Sequence[Node], runtime: Runtime, progress: ProgressCallback) -> None:
        for node in nodes:
            write_files(
                self._files(node),
                node,
                cluster,
                security=self._security,
                properties=self._properties,
                log4j_1=runtime.logs_with_log4j_1,
            )
        fresh = [self._files(node) for node in nodes if not self._files(node).formatted]
        if not fresh:
            return
        progress(Progress("format", f"storage in {self._folder}"))
        users = self._security.users if self._security else {}

        def format_one(files: BrokerFolder) -> None:
            format_storage(files, cluster.cluster_id, runtime, users=users, environment=self._environment)

        with ThreadPoolExecutor(len(fresh)) as pool:
            list(pool.map(format_one, fresh))

    def _spawn(self, node: Node, runtime: Runtime, *, leashed: bool, class_list: Path | None) -> _Launched:
        files = self._files(node)
        server_log.rotate(files.log)
        log_start_bytes = files.log.stat().st_size if files.log.exists() else 0
        command = runtime.broker(files.properties, files.log_config, class_list=class_list)
        born = process.spawn(command, log=files.log, folder=files.path, environment=self._environment, leashed=leashed)
        process.save(born, files.pid_file)
        return _Launched(node, born, log_start_bytes)

    def await_ready(self, cluster: Cluster, nodes: Sequence[Node], started: Iterable[_Launched] = ()) -> None:
        """Block until each of ``nodes`` answers on the clients' listener and sees all of them take part."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        ids = {node.id for node in nodes}
        waiting = list(nodes)
        while waiting := [node for node in waiting if not self._is_ready(cluster, node, ids)]:
            for launched in started:
                self._require_alive(launched)
            if time.monotonic() > deadline:
                raise self._too_slow(waiting[0])
            time.sleep(_POLL_S)

    def _is_ready(self, cluster: Cluster, node: Node, ids: set[int]) -> bool:
        return wire.answers(self._address(cluster, node)) and wire.live_brokers(wire.Address(node.plain_port)) >= ids

    def _address(self, cluster: Cluster, node: Node) -> wire.Address:
        return wire.Address(node.port, cluster.host, self._security.ca_pem if self._security else None)

    def _require_alive(self, launched: _Launched) -> None:
        if launched.process.alive():
            return
        log = self._files(launched.node).log
        lines = server_log.tail(log, since_bytes=launched.log_start_bytes)
        if any(server_log.DISK_FULL in line for line in lines):
            raise EmbeddedKafkaError(f"Broker {launched.node.id} ended: the disk is full. Make room; its log is {log}.")
        reason = "\n".join(server_log.explain(lines))
        raise EmbeddedKafkaError(f"Broker {launched.node.id} ended while it started; its log is {log}:\n{reason}")

    def _too_slow(self, node: Node) -> EmbeddedKafkaError:
        log = self._files(node).log
        reason = "\n".join(server_log.explain(server_log.tail(log)))
        return EmbeddedKafkaError(
            f"Broker {node.id} does not answer on port {node.port} after {_READY_TIMEOUT_S:.0f} s. `recado "
            f"kafka stop` ends it; its log is {log}:\n{reason}"
        )

    def end(self, nodes: Iterable[Node], *, timeout_s: float) -> int:
        """Stop brokers cleanly all at once, kill what is left after ``timeout_s``; return how many ran."""
        running = {node: found for node in nodes if (found := self.process(node)) is not None}
        for found in running.values():
            found.send(signal.SIGTERM)
            # A paused one gets to see it only when it goes on.
            found.send(signal.SIGCONT)
        deadline = time.monotonic() + timeout_s
        for node, found in running.items():
            if not found.wait(max(0.0, deadline - time.monotonic())):
                found.send(signal.SIGKILL)
            if not found.wait(_KILL_TIMEOUT_S):
                raise EmbeddedKafkaError(f"Broker {node.id} (process {found.pid}) does not end, even when killed.")
            self._files(node).pid_file.unlink(missing_ok=True)
        return len(running)

    def _files(self, node: Node) -> BrokerFolder:
        return BrokerFolder(self._folder / f"broker-{node.id}")
