"""What `recado doctor` checks on this machine: folder, disk, ports, open files, clock, Java."""

from __future__ import annotations

import errno
import http.client
import importlib.util
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from recado.cli.finding import Finding, ok, problem, warning
from recado.embedded.java import find_java
from recado.errors import EmbeddedKafkaError

if sys.platform != "win32":
    import resource

__all__ = ["check_clock", "check_disk", "check_folder", "check_java", "check_open_files", "check_port"]

#: Below so much free room Kafka and a spool will soon fail, and below that they fail now, in bytes.
LITTLE_ROOM_BYTES = 2_000_000_000
NO_ROOM_BYTES = 200_000_000

#: Every connection is an open file; so few are soon used up.
FEW_FILES = 4096

#: A clock that shows less is wrong, and every id and timestamp with it.
RELEASED = datetime(2026, 1, 1, tzinfo=UTC)

#: A newest record so far in the future means that somebody's clock is wrong, in seconds.
SKEW_S = 5.0

#: What listens on a port of ours on this machine answers in milliseconds, if it is ours.
HTTP_TIMEOUT_S = 2.0


def check_folder(folder: Path) -> Finding:
    """Whether the data folder can be written, or made."""
    nearest = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        detail = f"{nearest} cannot be written ({error.strerror})"
        return problem("data folder", detail, "set RECADO_DATA_DIR to a folder that can")
    return ok("data folder", f"{folder} can be written" if nearest == folder else f"{folder} can be made")


def check_disk(folder: Path) -> Finding:
    """Whether the data folder's disk has room."""
    return judge_room(shutil.disk_usage(_existing(folder)).free, folder)


def judge_room(free_bytes: int, folder: Path) -> Finding:
    """What so much free room means."""
    detail = f"{free_bytes / 1e9:,.1f} GB are free for {folder}"
    remedy = "make room, or set RECADO_DATA_DIR to a larger disk"
    if free_bytes < NO_ROOM_BYTES:
        return problem("disk", detail, remedy)
    return warning("disk", detail, remedy) if free_bytes < LITTLE_ROOM_BYTES else ok("disk", detail)


def check_open_files() -> Finding:
    """How many files and connections this shell's programs may open."""
    if sys.platform == "win32":
        return ok("open files", "this system sets no limit to ask for")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return judge_open_files(soft, hard, unlimited=resource.RLIM_INFINITY)


def judge_open_files(soft: int, hard: int, *, unlimited: int) -> Finding:
    """What such a limit means."""
    if soft == unlimited:
        return ok("open files", "without a limit")
    if soft >= FEW_FILES:
        return ok("open files", f"up to {soft:,}")
    reachable = 65_536 if hard in (unlimited, -1) else min(hard, 65_536)
    if reachable <= soft:
        return warning("open files", f"only {soft:,}, and no more allowed", "raise the system's limit (nofile)")
    return warning("open files", f"only {soft:,}", f"run `ulimit -n {reachable}` before the gateway")


def check_clock(now: datetime, newest_ms: int | None) -> Finding:
    """Whether this clock is plausible, beside the newest record's where there is one.

    Kafka tells nobody its time, so a small difference cannot be seen.
    """
    shown = f"{now:%Y-%m-%d %H:%M:%S %Z}"
    if now < RELEASED:
        return problem("clock", f"it shows {shown}, which is long gone", "set it, and keep it by NTP")
    ahead_s = 0.0 if newest_ms is None else newest_ms / 1000 - now.timestamp()
    if ahead_s > SKEW_S:
        detail = f"it shows {shown}; the newest record is from {ahead_s:,.0f} s later"
        return warning("clock", detail, "compare this machine's clock with the senders', and keep both by NTP")
    return ok("clock", f"it shows {shown}" + ("" if newest_ms is None else "; no record is from the future"))


def check_port(check: str, host: str, port: int, *, option: str) -> Finding:
    """Whether a port is free for one of recado's programs, or taken by it already. ``option`` sets another."""
    if port == 0:
        return ok(check, "it will take any free port")
    reason = _cannot_listen(host, port)
    if reason is None:
        return ok(check, f"port {port} of {host} is free for it")
    if reason == errno.EADDRINUSE:
        return judge_answer(check, port, _ready(host, port), option=option)
    if reason == errno.EACCES:
        return problem(check, f"port {port} is not allowed to this user", f"set {option} to one above 1023")
    return problem(check, f"{host} is no address of this machine", "set its address to 127.0.0.1 or 0.0.0.0")


def judge_answer(check: str, port: int, answer: bytes | None, *, option: str) -> Finding:
    """What the answer of ``/health/ready`` at a taken port means; None stands for no answer in HTTP."""
    try:
        health = msgspec.json.decode(answer or b"null")
        status, reasons = health["status"], health["reasons"]
        details = "; ".join(reason["detail"] for reason in reasons)
    except (msgspec.DecodeError, TypeError, KeyError):
        return problem(
            check, f"another program listens on port {port}", f"stop that one, or set {option} to a free port"
        )
    if status == "ready":
        return ok(check, f"one runs on port {port} and is ready")
    return warning(check, f"one runs on port {port} and is {status}: {details}", "look at its log")


def check_java(environment: Mapping[str, str]) -> Finding:
    """Whether this machine could run the embedded Kafka."""
    try:
        java = find_java(environment)
    except EmbeddedKafkaError as error:
        return warning("embedded kafka", str(error).rstrip("."), "only `recado up` and `recado kafka` need it")
    if importlib.util.find_spec("jgo") is None:
        detail = f"Java {java.major} is there, but not what fetches Kafka"
        return warning("embedded kafka", detail, "pip install 'recado[kafka]', for `recado up` and `recado kafka`")
    return ok("embedded kafka", f"can run: Java {java.major} from {java.origin}")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _cannot_listen(host: str, port: int) -> int | None:
    """The errno that keeps a server from listening there now, or None."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)  # two that reuse an address may both bind; only one may listen
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None


def _ready(host: str, port: int) -> bytes | None:
    """What ``/health/ready`` answers there, with whatever status."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    connection = http.client.HTTPConnection(reachable, port, timeout=HTTP_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().read(65_536)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
