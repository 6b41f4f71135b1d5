"""Sets a damaged spool file aside, and takes out of it what can be read: a kill in between loses nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import structlog

from recado.clock import wall_clock_ms
from recado.gateway.spool.rescue import saved_rows
from recado.gateway.spool.store import Store

__all__ = ["DAMAGED", "finish_rescues", "put_away", "set_aside"]

log = structlog.get_logger(__name__)

#: The word in the name of a file that was set aside and not read yet, and of one that was.
DAMAGED, ASIDE = "damaged", "aside"


def set_aside(path: Path, error: Exception) -> None:
    """Move a file away, with its log. Whoever owns its number must ``finish_rescues`` then, now or at the next start.

    Both get their new names before either loses its old one: after a kill in between both are rescued, none is lost.
    """
    aside = path.with_name(f"{path.stem}.{DAMAGED}-{wall_clock_ms()}.db")
    if Path(f"{path}-wal").exists():
        _linked(Path(f"{path}-wal"), Path(f"{aside}-wal"))
    if path.exists():
        _linked(path, aside)
    else:
        aside.touch()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    log.error("spool damaged", path=str(path), error=str(error), set_aside=str(aside))


def finish_rescues(path: Path, store: Store) -> None:
    """Take what can be read out of the files of this number that were set aside, into its store."""
    for damaged in sorted(path.parent.glob(f"{path.stem}.{DAMAGED}-*.db")):
        try:
            saved = store.append(saved_rows(damaged))
        except (OSError, sqlite3.Error) as error:
            log.error("damaged spool left for the next start", path=str(damaged), error=str(error))
            continue
        aside = Path(str(damaged).replace(f".{DAMAGED}-", f".{ASIDE}-"))
        put_away(damaged, aside)
        log.error("damaged spool read", records_saved=saved, kept=str(aside), then="delete it when it is not needed")


def put_away(path: Path, aside: Path | None = None) -> Path:
    """Give a file of which nothing more can be read its last name, and return that."""
    aside = aside or path.with_name(f"{path.stem}.{ASIDE}-{wall_clock_ms()}.db")
    for suffix in ("-wal", ""):
        old = Path(f"{path}{suffix}")
        if old.exists():
            old.rename(f"{aside}{suffix}")
    return aside


def _linked(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # not every file system has links
        shutil.copyfile(old, new)
