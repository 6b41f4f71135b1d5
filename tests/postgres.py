"""Starts a real PostgreSQL for a test: in a folder of its own, on a free port, ended by its pid."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.programs import eventually, free_port

#: Where Debian puts each version's programs, which are not on the path.
DEBIAN = Path("/usr/lib/postgresql")


def _programs() -> Path:
    found = sorted(DEBIAN.glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path is not None:
        return Path(on_path).parent
    message = "PostgreSQL is not installed (Debian: apt install postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run it while the block does; yields how to connect."""
    programs, data, port = _programs(), folder / "postgres", free_port()
    data.mkdir()
    user: dict[str, object] = {}
    if os.getuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("postgres")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        for parent in (data, *data.parents):  # that it may come there at all
            if parent.stat().st_uid == os.getuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "recado", "-A", "trust", "--no-sync"],
        check=True, capture_output=True, env=environment, cwd=data, **user,
    )  # fmt: skip
    arguments = [
        "-D",
        data,
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"unix_socket_directories={data}",
    ]
    with (folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", *arguments], stdout=log, stderr=log, env=environment, cwd=data, **user
        )
    where = f"host=127.0.0.1 port={port} user=recado dbname=postgres"
    try:
        eventually(lambda: _answers(where), why=(folder / "postgres.log").read_text)
        yield where
    finally:
        process.terminate()
        process.wait(20)


def _answers(where: str) -> bool:
    try:
        psycopg.connect(where, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
