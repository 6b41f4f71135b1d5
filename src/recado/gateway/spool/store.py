"""The spool file: rows on disk in SQLite, each with a checksum; one commit makes many durable at once."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recado.errors import SpoolFailed
from recado.gateway.spool.reserve import Reserve
from recado.gateway.spool.row import (
    REFUSED,
    ROW_BYTES,
    TOPIC_BITS,
    WAITING,
    Extent,
    Row,
    Saved,
    Unreadable,
    decoded,
    encoded,
)
from recado.local.durable import BUSY_S, make_durable, transaction

__all__ = ["Damaged", "Store"]

#: Marks the file as recado's ("reca"), so that no other SQLite file is taken for a spool.
APPLICATION_ID = 0x72656361

#: Layout of the tables; a file of another layout is not touched.
LAYOUT = 1

#: Beyond so many layouts a number is a flipped bit.
LAYOUTS = 1_000

_TABLES = (
    "CREATE TABLE topics(number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)",
    """CREATE TABLE records(seq INTEGER PRIMARY KEY, state INTEGER NOT NULL, kept_ms INTEGER NOT NULL,
       crc INTEGER NOT NULL, body BLOB NOT NULL, reason TEXT)""",
    "CREATE INDEX refused ON records(seq) WHERE state > 0",
)


class Damaged(sqlite3.DatabaseError):
    """The file is not what was written."""


class Store:
    """One spool file. Every call may raise ``sqlite3.Error``; nothing of a failed ``transaction`` remains.

    A connection of its own per thread: make one Store to write and others (``read_only``) to read; not thread-safe.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.reserve = Reserve(path)
        mode = "ro" if read_only else "rwc"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
        self._topics: dict[str, int] = {}
        #: Which files are written, the log from the first commit on.
        self._inode: tuple[int, int] | None = None
        self._log_inode: tuple[int, int] | None = None
        #: Topics that the transaction under way has added.
        self._fresh: list[str] = []
        if read_only:
            return
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        is_new = self._check_layout()
        make_durable(self._db)
        if is_new:  # else nothing is written: a spool on a full disk opens, and empties
            with transaction(self._db):
                for statement in _TABLES:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version={LAYOUT}")
        self._topics = {name: number for number, name in self._db.execute("SELECT number, name FROM topics")}
        self._inode = _inode(self.path)

    def _check_layout(self) -> bool:
        """Tell whether the file is new. Raises Damaged, or SpoolFailed where a later recado has written it."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION_ID and LAYOUT < layout < LAYOUTS:
            raise SpoolFailed(f"{self.path} was written by a later version of recado, which must empty it.")
        if (application, layout) not in ((0, 0), (APPLICATION_ID, LAYOUT)):
            raise Damaged(f"{self.path} is not a spool of recado")
        return bool(application == 0)

    def check(self) -> None:
        """Raise sqlite3.DatabaseError where the file is not whole. Reads all of it: a second or two per gigabyte."""
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Damaged(f"{self.path}: {found}")
        lost = "SELECT 1 FROM records WHERE seq >> ? NOT IN (SELECT number FROM topics) LIMIT 1"
        if self._db.execute(lost, (TOPIC_BITS,)).fetchone() is not None:
            raise Damaged(f"{self.path}: rows of a topic that nobody knows")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside becomes durable together at the end, or nothing of it."""
        self._fresh = []
        try:
            with transaction(self._db):
                yield
                self._check_there()
        except BaseException:
            for topic in self._fresh:
                self._topics.pop(topic, None)
            raise

    def _check_there(self) -> None:
        """What is written to a file that somebody deleted, or to a deleted log beside it, is kept nowhere."""
        if (found := _inode(self.path)) != self._inode:
            what = "is gone" if found is None else "is another file now"
            raise sqlite3.OperationalError(f"{self.path} {what}; restart the gateway")
        log = self.path.with_name(f"{self.path.name}-wal")
        found = _inode(log)
        if self._log_inode is None:
            self._log_inode = found
        elif found != self._log_inode:
            raise sqlite3.OperationalError(f"{log} is gone; restart the gateway")

    def touch(self) -> None:
        """Write a little, to see whether that works. Inside a transaction."""
        self._db.execute(f"PRAGMA user_version={LAYOUT}")

    def topic_number(self, topic: str) -> int:
        """The number of a topic's rows. Inside a transaction, since a new topic is written down."""
        number = self._topics.get(topic)
        if number is None:
            number = max(self._topics.values(), default=0) + 1
            self._db.execute("INSERT INTO topics VALUES(?, ?)", (number, topic))
            self._topics[topic] = number
            self._fresh.append(topic)
        return number

    def add(self, rows: Sequence[tuple[int, bytes]], kept_ms: int) -> None:
        """Write rows: (row number, encoded record)."""
        crc32 = zlib.crc32
        self._db.executemany(
            "INSERT INTO records(seq, state, kept_ms, crc, body) VALUES(?, 0, ?, ?, ?)",
            [(seq, kept_ms, crc32(body), body) for seq, body in rows],
        )

    def strike(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Remove the rows of each range (first, last)."""
        self._db.executemany("DELETE FROM records WHERE seq BETWEEN ? AND ?", ranges)

    def append(self, rows: Iterable[Saved], *, max_rows: int = 5_000, max_bytes: int = 16 * 1024 * 1024) -> int:
        """Take in rows of another file after those of their topics, many in each commit; return how many."""
        added, rows = 0, iter(rows)
        while batch := _batch(rows, max_rows, max_bytes):
            with self.transaction():
                for (record, kept_ms, state, reason), body in batch:
                    row = self.highest(self.topic_number(record.topic)) + 1
                    self.add([(row, body)], kept_ms)
                    if state != WAITING:
                        self.refuse([(row, reason)])
            added += len(batch)
        return added

    def refuse(self, refused: Iterable[tuple[int, str]]) -> None:
        """Set aside rows that Kafka refused for good, with its words; they wait for a person."""
        self._db.executemany(
            "UPDATE records SET state = ?, reason = ? WHERE seq = ?", [(REFUSED, why, seq) for seq, why in refused]
        )

    def restore(self, seqs: Iterable[int]) -> None:
        """Let rows that were set aside wait for Kafka again."""
        self._db.executemany("UPDATE records SET state = 0, reason = NULL WHERE seq = ?", [(seq,) for seq in seqs])

    def read(self, number: int, after: int, limit: int, max_bytes: int) -> list[Row | Unreadable]:
        """The next waiting rows of a topic's number after a row number, in order: up to ``limit``, about ``max_bytes``.

        At least one, if there is one.
        """
        found = self._db.execute(
            "SELECT seq, crc, body, kept_ms FROM records WHERE seq > ? AND seq < ? AND state = 0 ORDER BY seq LIMIT ?",
            (max(after, number << TOPIC_BITS), (number + 1) << TOPIC_BITS, limit),
        )
        rows: list[Row | Unreadable] = []
        try:
            for seq, crc, body, kept_ms in found:
                record = decoded(crc, body)
                rows.append(Unreadable(seq) if record is None else Row(seq, record, kept_ms))
                max_bytes -= len(body)
                if max_bytes <= 0:
                    break
        finally:
            found.close()
        return rows

    def extents(self) -> list[Extent]:
        """What waits, by topic. Looks at every row: a second per million or so."""
        found = self._db.execute(
            """SELECT t.name, t.number, count(*), sum(length(r.body)), min(r.seq), max(r.seq), min(r.kept_ms)
               FROM records r JOIN topics t ON t.number = r.seq >> ?1 WHERE r.state = 0 GROUP BY r.seq >> ?1""",
            (TOPIC_BITS,),
        )
        return [Extent(*values) for values in found]

    def highest(self, number: int) -> int:
        """The highest row number of a topic's number, waiting or not; the one before its first where it has none."""
        low, high = number << TOPIC_BITS, (number + 1) << TOPIC_BITS
        (found,) = self._db.execute("SELECT max(seq) FROM records WHERE seq > ? AND seq < ?", (low, high)).fetchone()
        return found if found is not None else low

    def refused(self) -> tuple[int, int]:
        """How many rows wait for a person, and about their bytes."""
        query = "SELECT count(*), coalesce(sum(length(body)), 0) FROM records WHERE state > 0"
        count, size_bytes = self._db.execute(query).fetchone()
        return count, size_bytes + count * ROW_BYTES

    def rows(self, *, number: int | None = None, refused_only: bool = False) -> Iterator[Row | Unreadable]:
        """Every row, waiting or refused, topic by topic in order; or that of one row number, or those refused."""
        query = """SELECT seq, crc, body, kept_ms, state, reason FROM records
                   WHERE (?1 IS NULL OR seq = ?1) AND state >= ?2 ORDER BY seq"""
        for seq, crc, body, kept_ms, state, reason in self._db.execute(query, (number, int(refused_only))):
            record = decoded(crc, body)
            yield Unreadable(seq) if record is None else Row(seq, record, kept_ms, state, reason or "")

    def changes(self) -> int:
        """A number that changes when another process has written to the file."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

    def shrink(self) -> None:
        """Give the disk back what an empty spool does not need."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if self._db.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None:
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def tidy(self) -> None:
        """Carry the log into the file, after the disk was full, and take the reserve again."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.reserve.fill()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def _inode(path: Path) -> tuple[int, int] | None:
    """Which file stands there; None where none does."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise sqlite3.OperationalError(f"{path}: {error.strerror}") from error
    return status.st_dev, status.st_ino


def _batch(rows: Iterator[Saved], max_rows: int, max_bytes: int) -> list[tuple[Saved, bytes]]:
    batch: list[tuple[Saved, bytes]] = []
    while len(batch) < max_rows and max_bytes > 0 and (row := next(rows, None)) is not None:
        body = encoded(row[0])
        max_bytes -= len(body)
        batch.append((row, body))
    return batch
