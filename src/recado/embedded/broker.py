"""An embedded Kafka: one broker or a cluster of them, on loopback, in KRaft mode, under a data folder."""

from __future__ import annotations

import errno
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from recado.embedded import cluster as records
from recado.embedded import jars, lock
from recado.embedded.archive import Archive
from recado.embedded.cluster import Cluster, Wish
from recado.embedded.config import Node, Security
from recado.embedded.fleet import Fleet
from recado.embedded.java import find_java
from recado.embedded.launch import Runtime
from recado.embedded.pins import read_pins
from recado.embedded.progress import Progress, ProgressCallback, silent
from recado.embedded.status import Status
from recado.embedded.storage import require_expressible
from recado.errors import EmbeddedKafkaError

__all__ = ["EmbeddedKafka"]

#: A clean stop takes 0.3 s, of three brokers a few seconds; then they are killed, which Kafka survives.
_STOP_TIMEOUT_S = 30.0


class EmbeddedKafka:
    """A real Kafka on this machine, its files under ``data_dir/kafka``.

    ``brokers`` None means as many as are recorded there, else one; ``port`` is the first broker's (the others take
    the ports after it), 0 means the recorded ones, else free ones. ``properties`` win over ours in every
    ``server.properties``. ``java_env`` is the environment in which Java is looked for and run: usually
    ``os.environ``. ``cache_dir`` is where the jars are kept, by default the user's cache folder.

    Every object for the same ``data_dir`` sees the same brokers, in this process or another. Starting, stopping
    and resetting exclude one another across processes by a lock; one object is for one thread at a time.
    As a context manager it starts, and stops only what it started.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        java_env: Mapping[str, str],
        version: str = "4.3.1",
        brokers: int | None = None,
        port: int = 9092,
        host: str = "localhost",
        security: Security | None = None,
        properties: Mapping[str, str] | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        read_pins(version)
        if security is not None:
            require_expressible(security)
        self._wish = Wish(version, brokers, port, host, security is not None)
        self._environment = java_env
        self._cache_dir = (cache_dir or jars.default_cache_dir(java_env)).absolute()
        self._data_dir = data_dir.absolute()
        self._folder = self._data_dir / "kafka"
        self._fleet = Fleet(self._folder, environment=java_env, security=security, properties=properties)
        self._leashed = True
        self._started = False

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of every broker, separated by commas. Raises EmbeddedKafkaError before the first start."""
        return self._recorded().bootstrap_servers

    def start(self, progress: ProgressCallback = silent, *, detach: bool = False) -> bool:
        """Start what does not run yet, and block until Kafka answers; False when all of it ran already.

        ``detach``: it goes on when this Python process ends. Otherwise the system ends it with us, even if we are
        killed (on Linux; elsewhere the next start finds it running). Raises EmbeddedKafkaError when a port is
        taken, the disk is full, jars or Java cannot be had, or a broker dies; then nothing that this call
        started is left running.
        """
        self._leashed = not detach
        with self._exclusive():
            cluster = records.load(self._folder)
            if cluster is not None and not self._fleet.holds_data(cluster):
                cluster = None  # Planned once, but it never got as far as having data that bind us.
            running = [node for node in cluster.nodes if self._fleet.process(node)] if cluster else []
            if cluster is None or not running:
                cluster = records.plan(cluster, self._wish)
            stopped = [node for node in cluster.nodes if node not in running]
            if stopped:
                self._folder.mkdir(parents=True, exist_ok=True)
                records.save(cluster, self._folder)
                self._launch(cluster, stopped, progress)
            self._fleet.await_ready(cluster, cluster.nodes)
        self._started = self._started or bool(stopped)
        progress(Progress("ready", cluster.bootstrap_servers))
        return bool(stopped)

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S, progress: ProgressCallback = silent) -> bool:
        """Stop every broker cleanly, and kill what is left after ``timeout_s``; False when none ran."""
        with self._exclusive():
            return self._stop(timeout_s, progress)

    def reset(self, timeout_s: float = _STOP_TIMEOUT_S, progress: ProgressCallback = silent) -> None:
        """Stop, and delete every topic, offset and log: ``data_dir/kafka`` is gone afterwards."""
        with self._exclusive():
            self._stop(timeout_s, progress)
            if self._folder.exists():
                shutil.rmtree(self._folder)

    def status(self) -> Status:
        """Look at every broker and ask each one; blocks for up to two seconds for each that is silent."""
        cluster = records.load(self._folder)
        if cluster is None:
            return Status(None, "", ())
        brokers = tuple(self._fleet.look(cluster, node) for node in cluster.nodes)
        return Status(cluster.version, cluster.bootstrap_servers, brokers)

    def kill(self, broker_id: int) -> None:
        """End one broker with SIGKILL, as a crash would, and block until it is gone."""
        node = self._recorded().node(broker_id)
        self._fleet.signal(node, signal.SIGKILL)
        self._fleet.end([node], timeout_s=0)

    def pause(self, broker_id: int) -> None:
        """Stop one broker's process with SIGSTOP: it keeps its connections and answers nothing."""
        self._fleet.signal(self._recorded().node(broker_id), signal.SIGSTOP)

    def resume(self, broker_id: int) -> None:
        """Let a paused broker go on with SIGCONT."""
        self._fleet.signal(self._recorded().node(broker_id), signal.SIGCONT)

    def restart_broker(self, broker_id: int, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Stop one broker cleanly if it runs (killed after ``timeout_s``), start it, block until it takes part.

        Of three brokers another one must run meanwhile: alone it has no quorum. `start` brings back all that are
        missing.
        """
        with self._exclusive():
            cluster = self._recorded()
            node = cluster.node(broker_id)
            self._fleet.end([node], timeout_s=timeout_s)
            self._launch(cluster, [node], silent)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._started:
            self.stop()

    def _launch(self, cluster: Cluster, nodes: Sequence[Node], progress: ProgressCallback) -> None:
        java = find_java(self._environment)
        progress(Progress("java", f"Java {java.major} from {java.origin}"))
        class_path = jars.ensure(cluster.version, self._cache_dir, progress=progress)
        archive = Archive(self._cache_dir / cluster.version, java)
        runtime = Runtime(java, cluster.version, class_path, archive.path)
        class_list = archive.class_list() if runtime.archive is None and self._leashed else None
        self._fleet.launch(cluster, nodes, runtime, leashed=self._leashed, progress=progress, class_list=class_list)
        if class_list is not None:
            archive.build(runtime, self._environment)

    def _stop(self, timeout_s: float, progress: ProgressCallback) -> bool:
        cluster = records.load(self._folder)
        self._started = False
        if cluster is None or not any(self._fleet.process(node) for node in cluster.nodes):
            return False
        progress(Progress("stop", f"Kafka on {cluster.bootstrap_servers}"))
        return self._fleet.end(cluster.nodes, timeout_s=timeout_s) > 0

    def _recorded(self) -> Cluster:
        cluster = records.load(self._folder)
        if cluster is None:
            raise EmbeddedKafkaError(f"No embedded Kafka was started in {self._data_dir} yet: `recado kafka start`.")
        return cluster

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the folder's lock, and say in our words what the disk refuses."""
        try:
            with lock.held(self._data_dir / "kafka.lock"):
                yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise EmbeddedKafkaError(
                    f"The disk that holds {self._folder} is full: make room and try again."
                ) from error
            where = error.filename or self._folder
            raise EmbeddedKafkaError(f"The embedded Kafka failed at {where}: {error.strerror or error}.") from error
