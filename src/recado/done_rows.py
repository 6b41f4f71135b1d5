"""Rows that say which records are done, written in the user's own transaction: then its effects happen exactly once."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from recado.errors import HandlerError

__all__ = ["TABLE", "AlreadyDone", "insert", "offset_table"]

#: The table, in the words that SQLite and PostgreSQL share.
TABLE = """
CREATE TABLE IF NOT EXISTS recado_done (
    group_name TEXT NOT NULL,
    record_id TEXT NOT NULL,
    record_topic TEXT NOT NULL,
    record_partition INTEGER NOT NULL,
    record_offset BIGINT NOT NULL,
    done_at TEXT NOT NULL,
    PRIMARY KEY (group_name, record_topic, record_id)
)
"""

_COLUMNS = ("group_name", "record_id", "record_topic", "record_partition", "record_offset", "done_at")

#: How each DB-API parameter style (PEP 249) marks a place.
_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s"}


class AlreadyDone(Exception):
    """The record's row is there: an earlier call has done it. Let it pass; the worker counts the record as done."""

    #: Also of a subclass whose constructor does not call this one.
    offset = -1

    def __init__(self, place: str, offset: int) -> None:
        super().__init__(f"{place} is done already")
        self.offset = offset

    def __reduce__(self) -> tuple[type[AlreadyDone], tuple[str, int]]:
        return type(self), (str(self).removesuffix(" is done already"), self.offset)


def offset_table(connection: Any) -> None:
    """Create the table ``recado_done`` where it is missing, in the connection's transaction (commit it)."""
    with closing(_driver(connection).cursor()) as cursor:
        cursor.execute(TABLE)


def insert(connection: Any, *, group: str, record_id: str, topic: str, partition: int, offset: int) -> None:
    """Insert a record's row in the connection's transaction. Raises AlreadyDone where it is there.

    Where another transaction is about to insert the same row this blocks until that has ended.
    """
    driver = _driver(connection)
    mark = _mark(driver)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with closing(driver.cursor()) as cursor:
        cursor.execute(
            f"INSERT INTO recado_done ({', '.join(_COLUMNS)}) VALUES ({', '.join([mark] * len(_COLUMNS))})"  # noqa: S608 - names and marks of our own
            " ON CONFLICT DO NOTHING",
            (group, record_id, topic, partition, offset, now),
        )
        if cursor.rowcount == 0:
            raise AlreadyDone(f"{topic}/{partition}/{offset}", offset)


def _driver(connection: Any) -> Any:
    """The DB-API connection; of SQLAlchemy's (a Connection, or a Session's) the one inside, in the same transaction."""
    if type(connection).__module__.partition(".")[0] == "sqlalchemy":
        if hasattr(connection, "connection") and callable(connection.connection):
            connection = connection.connection()  # a Session
        return connection.connection.dbapi_connection
    return connection


def _mark(driver: Any) -> str:
    for kind in type(driver).__mro__:
        module = sys.modules.get(kind.__module__.partition(".")[0].removeprefix("_"))
        style = getattr(module, "paramstyle", None)
        if style in _MARKS:
            return _MARKS[style]
    name = f"{type(driver).__module__}.{type(driver).__qualname__}"
    raise HandlerError(f"offset_in does not know how {name} marks parameters; give a sqlite3 or psycopg connection.")
