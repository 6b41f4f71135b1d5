"""A moment in a request: milliseconds since the epoch, or ISO 8601 with an offset (pure)."""

from __future__ import annotations

import re
from datetime import datetime

from recado.gateway.problem import invalid

__all__ = ["checked_moment", "moment_in", "typed_moment"]

#: The largest timestamp that is a whole number in every JSON reader (in the year 287,396).
LAST_TIMESTAMP_MS = 2**53 - 1


def moment_in(field: str, text: str) -> int:
    """Milliseconds since the epoch, from a query's text. Raises Problem that names the field."""
    return checked_moment(field, typed_moment(text))


def typed_moment(text: str) -> int | str:
    """What a query's text would be in JSON: a number, where it is one."""
    return int(text) if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else text


def checked_moment(field: str, moment: int | str) -> int:
    """Milliseconds since the epoch, from those or from ISO 8601 with an offset. Raises Problem that names the field."""
    if isinstance(moment, str):
        try:
            found = datetime.fromisoformat(moment)
        except ValueError as error:
            raise invalid(field, f"{moment[:60]!r} is not ISO 8601.") from error
        if found.tzinfo is None:
            raise invalid(field, f"{moment!r} lacks an offset; end it with Z for UTC.")
        moment = round(found.timestamp() * 1000)
    if not 1 <= moment <= LAST_TIMESTAMP_MS:
        raise invalid(field, f"{moment} must be milliseconds since 1970, between 1 and {LAST_TIMESTAMP_MS}.")
    return moment
