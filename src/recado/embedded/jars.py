"""Fetch the pinned jars of a Kafka version, and let none run whose SHA-256 is not the pinned one."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recado.embedded import lock
from recado.embedded.pins import Pin, read_pins
from recado.embedded.progress import Progress, ProgressCallback, silent
from recado.errors import EmbeddedKafkaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["SUMS", "class_path", "default_cache_dir", "ensure", "fingerprint"]

#: What was verified: for each jar its size, times and sum. Lets a start check 40 files in a millisecond.
SUMS = "sums.json"

#: Where unfinished downloads live; emptied at each attempt, so nothing unverified ever has a jar's name.
_STAGING = ".fetching"

#: Downloads at a time: latency dominates, and more is unkind to a public server.
_PARALLEL = 6

#: Attempts for one jar: public servers drop a connection now and then.
_ATTEMPTS = 3

#: A listening callback wants to draw a bar, not to be called for each of 6,000 chunks.
_REPORT_EVERY_BYTES = 256 * 1024

_SumsTable = dict[str, list[Any]]


def default_cache_dir(environment: Mapping[str, str]) -> Path:
    """The user's cache folder for Kafka's jars: ``$XDG_CACHE_HOME`` or ``~/.cache``, then ``recado/kafka``."""
    xdg = environment.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache"
    return base / "recado" / "kafka"


def class_path(version: str, cache_dir: Path) -> str:
    """Return the class path of a version whose jars ``ensure`` has found good; the same text at each call."""
    return ":".join(str(cache_dir / version / pin.filename) for pin in read_pins(version))


def fingerprint(folder: Path) -> str:
    """Return a text that changes whenever a jar in ``folder`` does: names, sizes, times and sums, once verified."""
    return json.dumps(_read_sums(folder), sort_keys=True)


def ensure(version: str, cache_dir: Path, *, progress: ProgressCallback = silent) -> str:
    """Have every pinned jar in ``cache_dir/version``, verified, and return the class path.

    Blocks while it fetches; an interrupted fetch goes on where it stopped, jar by jar. Two processes may call
    this at once: the second waits. A jar that changed since it was verified is hashed anew; a wrong one is
    refused by name (stage ``refused``) and fetched again. Raises EmbeddedKafkaError when a jar cannot be had.
    """
    pins = read_pins(version)
    folder = (cache_dir / version).absolute()
    if _all_verified(pins, folder, _read_sums(folder)):
        return class_path(version, cache_dir.absolute())
    try:
        with lock.held(folder / ".lock", waiting=lambda: progress(Progress("check", "another process is fetching"))):
            _complete(version, pins, folder, progress)
    except OSError as error:
        raise _disk_error(error, folder) from error
    return class_path(version, cache_dir.absolute())


def _complete(version: str, pins: tuple[Pin, ...], folder: Path, progress: ProgressCallback) -> None:
    progress(Progress("check", f"Kafka {version}", files_total=len(pins)))
    known = _read_sums(folder)
    missing = [pin for pin in pins if not _is_good(pin, folder, known, progress)]
    if missing:
        _require_space(missing, folder)
        _fetch_all(version, missing, folder, progress)
    for leftover in set(folder.glob("*.jar")) - {folder / pin.filename for pin in pins}:
        leftover.unlink()
    _write_sums(pins, folder)


def _all_verified(pins: tuple[Pin, ...], folder: Path, known: _SumsTable) -> bool:
    return all(_is_verified(pin, folder, known) for pin in pins)


def _is_verified(pin: Pin, folder: Path, known: _SumsTable) -> bool:
    """Tell whether this file is, by size and times, the one whose sum was found to be the pinned one."""
    try:
        return known.get(pin.filename) == _identity(folder / pin.filename, pin.sha256)
    except OSError:
        return False


def _identity(path: Path, sha256: str) -> list[Any]:
    # The time of the inode's last change cannot be set back by whoever replaces the content.
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, sha256]


def _is_good(pin: Pin, folder: Path, known: _SumsTable, progress: ProgressCallback) -> bool:
    path = folder / pin.filename
    if _is_verified(pin, folder, known):
        return True
    if not path.exists():
        return False
    if _matches(pin, path):
        return True
    progress(Progress("refused", f"{pin.filename} is not the jar that was pinned; it is fetched again"))
    path.unlink()
    return False


def _matches(pin: Pin, path: Path) -> bool:
    with path.open("rb") as file:
        return path.stat().st_size == pin.size_bytes and hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256


def _read_sums(folder: Path) -> _SumsTable:
    try:
        table = json.loads((folder / SUMS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _write_sums(pins: tuple[Pin, ...], folder: Path) -> None:
    table = {pin.filename: _identity(folder / pin.filename, pin.sha256) for pin in pins}
    fresh = folder / f"{SUMS}.new"
    fresh.write_text(json.dumps(table), "utf-8")
    fresh.replace(folder / SUMS)


@dataclass(slots=True)
class _Tally:
    """Counts what the download threads have got, and reports it."""

    version: str
    files_total: int
    size_total_bytes: int
    progress: ProgressCallback
    files_done: int = 0
    size_done_bytes: int = 0
    reported_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        with self.lock:
            self.files_done += files
            self.size_done_bytes += size_bytes
            if files or self.size_done_bytes - self.reported_bytes >= _REPORT_EVERY_BYTES:
                self.report()

    def report(self) -> None:
        self.reported_bytes = self.size_done_bytes
        self.progress(
            Progress(
                "fetch",
                f"Kafka {self.version}",
                files_done=self.files_done,
                files_total=self.files_total,
                size_done_bytes=min(self.size_done_bytes, self.size_total_bytes),
                size_total_bytes=self.size_total_bytes,
            )
        )

    @contextmanager
    def watch(self, _filename: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        """The resolver's own progress protocol."""
        yield lambda size_bytes: self.add(size_bytes=size_bytes)


def _fetch_all(version: str, missing: list[Pin], folder: Path, progress: ProgressCallback) -> None:
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    tally = _Tally(version, len(missing), sum(pin.size_bytes for pin in missing), progress)
    tally.report()
    download = _downloader(staging, tally.watch)
    pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="fetch jars")
    try:
        for job in [pool.submit(_fetch, pin, folder, download, tally) for pin in missing]:
            job.result()
    finally:
        # The first failure is the message; what else was queued would only fail the same way.
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(pin: Pin, folder: Path, download: Callable[[Pin], Path], tally: _Tally) -> None:
    path = download(pin)
    if not _matches(pin, path):
        path.unlink()
        raise EmbeddedKafkaError(
            f"{pin.coordinates} was fetched, but is not the jar that was pinned (its SHA-256 differs), so it was "
            "thrown away. If you use a mirror or a proxy, check what it serves; then start again."
        )
    path.replace(folder / pin.filename)
    tally.add(files=1)


def _downloader(
    staging: Path, watch: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
) -> Callable[[Pin], Path]:
    # Imported here: the resolver is an extra, and costs a quarter of a second that a start without a fetch saves.
    try:
        import requests
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise EmbeddedKafkaError(
            "The embedded Kafka needs the extra that fetches it: pip install 'recado[kafka]'."
        ) from error

    context = MavenContext(PythonResolver(progress_callback=watch), repo_cache=staging)
    # A user's mirror, named `central` in the resolver's own settings, takes the default's place.
    context.remote_repos.update(GlobalSettings.load().repositories)

    def download(pin: Pin) -> Path:
        artifact = context.project(pin.group, pin.artifact).at_version(pin.version).artifact(pin.classifier)
        for attempt in range(1, _ATTEMPTS + 1):
            # The resolver takes a half-written file of an earlier attempt for a finished one.
            shutil.rmtree(staging / artifact.component.path_prefix, ignore_errors=True)
            try:
                return Path(artifact.resolve())
            except (requests.RequestException, RuntimeError) as error:
                if attempt == _ATTEMPTS:
                    raise _network_error(pin, error) from error
        raise AssertionError("unreachable: the last attempt returns or raises")

    return download


def _network_error(pin: Pin, error: Exception) -> EmbeddedKafkaError:
    return EmbeddedKafkaError(
        f"{pin.coordinates} could not be fetched ({type(error).__name__}). The embedded Kafka needs the network once, "
        "for about 40 MB of jars: connect (or set HTTPS_PROXY) and start again, it goes on where it stopped; or use "
        "a Kafka that you have, with RECADO_BOOTSTRAP_SERVERS."
    )


def _require_space(missing: list[Pin], folder: Path) -> None:
    needed_bytes = sum(pin.size_bytes for pin in missing)
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{needed_bytes // 1_000_000 + 1} MB are needed")


def _disk_error(error: OSError, folder: Path) -> EmbeddedKafkaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EmbeddedKafkaError(
            f"The disk that holds {folder} is full, so Kafka's jars could not be stored ({error.strerror}). "
            "Make room and start again; it goes on where it stopped."
        )
    return EmbeddedKafkaError(f"Kafka's jars could not be stored in {folder}: {error.strerror}. Check its permissions.")
