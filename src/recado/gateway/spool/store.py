"""The spool file: rows on disk in SQLite, each with a checksum; one commit makes many durable at once."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from recado.record import Outgoing

__all__ = ["REFUSED", "ROW_BYTES", "TOPIC_BITS", "WAITING", "Extent", "Row", "Store", "Unreadable", "encoded"]

#: A row's number is its topic's number, shifted by so many bits, plus its place: so one range holds one topic.
TOPIC_BITS = 40

#: What a row takes on disk beyond its record, in bytes (b-tree cell, number, time, checksum), rounded up.
ROW_BYTES = 40

#: Marks the file as recado's ("reca"), so that no other SQLite file is taken for a spool.
APPLICATION_ID = 0x72656361

#: Layout of the tables; a file of another layout is not touched.
LAYOUT = 1

#: Longest wait for another process that looks into the file, in seconds.
BUSY_S = 5.0

#: States of a row: it waits for Kafka, or Kafka refused it and it waits for a person.
WAITING, REFUSED = 0, 1

_TABLES = """
CREATE TABLE IF NOT EXISTS topics(number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS records(seq INTEGER PRIMARY KEY, state INTEGER NOT NULL, kept_ms INTEGER NOT NULL,
    crc INTEGER NOT NULL, body BLOB NOT NULL, reason TEXT);
CREATE INDEX IF NOT EXISTS refused ON records(seq) WHERE state > 0;
"""

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Outgoing).decode


class Row(NamedTuple):
    """One record in the spool. ``kept_ms`` is when it was accepted, in milliseconds since the epoch."""

    seq: int
    record: Outgoing
    kept_ms: int
    state: int = WAITING
    reason: str = ""


class Unreadable(NamedTuple):
    """A row whose bytes are not those that were written."""

    seq: int


class Extent(NamedTuple):
    """What is waiting of one topic: rows and bytes, the lowest and highest row number, the oldest row's time."""

    topic: str
    number: int
    rows: int
    size_bytes: int
    lowest: int
    highest: int
    oldest_ms: int


class Store:
    """One spool file. Every call may raise ``sqlite3.Error``; nothing of a failed ``transaction`` remains.

    A connection of its own per thread: make one Store to write and others (``read_only``) to read; not thread-safe.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        mode = "ro" if read_only else "rwc"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
        if read_only:
            return
        self._check_layout()
        self._db.execute("PRAGMA journal_mode=WAL")
        # Every commit is synced to the disk: what was answered 202 survives a cut of the power, too.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version={LAYOUT}")
        self._topics: dict[str, int] = {name: number for number, name in self._db.execute("SELECT * FROM topics")}

    def _check_layout(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        if (application, layout) not in ((0, 0), (APPLICATION_ID, LAYOUT)):
            raise sqlite3.DatabaseError(f"{self.path} is not a spool of this version of recado")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside becomes durable together at the end, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def topic_number(self, topic: str) -> int:
        """The number of a topic's rows. Inside a transaction, since a new topic is written down."""
        number = self._topics.get(topic)
        if number is None:
            number = max(self._topics.values(), default=0) + 1
            self._db.execute("INSERT INTO topics VALUES(?, ?)", (number, topic))
            self._topics[topic] = number
        return number

    def forget_new_topics(self) -> None:
        """Know again only the topics on disk, after a transaction that failed."""
        self._topics = {name: number for number, name in self._db.execute("SELECT * FROM topics")}

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

    def refuse(self, refused: Iterable[tuple[int, str]]) -> None:
        """Set aside rows that Kafka refused for good, with its words; they wait for a person."""
        self._db.executemany(
            "UPDATE records SET state = ?, reason = ? WHERE seq = ?", [(REFUSED, why, seq) for seq, why in refused]
        )

    def restore(self, seqs: Iterable[int]) -> None:
        """Let rows that were set aside wait for Kafka again."""
        self._db.executemany("UPDATE records SET state = 0, reason = NULL WHERE seq = ?", [(seq,) for seq in seqs])

    def read(self, number: int, after: int, limit: int) -> list[Row | Unreadable]:
        """The next waiting rows of a topic's number after a row number, in order."""
        found = self._db.execute(
            "SELECT seq, crc, body, kept_ms FROM records WHERE seq > ? AND seq < ? AND state = 0 ORDER BY seq LIMIT ?",
            (max(after, number << TOPIC_BITS), (number + 1) << TOPIC_BITS, limit),
        ).fetchall()
        return [
            Row(seq, _decode(body), kept_ms) if zlib.crc32(body) == crc else Unreadable(seq)
            for seq, crc, body, kept_ms in found
        ]

    def extents(self) -> list[Extent]:
        """What waits, by topic. Reads every page of the file: a second per million rows or so."""
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

    def refused(self) -> int:
        """How many rows wait for a person."""
        (count,) = self._db.execute("SELECT count(*) FROM records WHERE state > 0").fetchone()
        return int(count)

    def rows(self) -> Iterator[Row | Unreadable]:
        """Every row, waiting or refused, topic by topic in order."""
        query = "SELECT seq, crc, body, kept_ms, state, reason FROM records ORDER BY seq"
        for seq, crc, body, kept_ms, state, reason in self._db.execute(query):
            if zlib.crc32(body) != crc:
                yield Unreadable(seq)
            else:
                yield Row(seq, _decode(body), kept_ms, state, reason or "")

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

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def encoded(record: Outgoing) -> bytes:
    """The bytes of a record as the spool keeps them."""
    return _encode(record)
