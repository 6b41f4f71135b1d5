"""A moment in a request: milliseconds since the epoch, or ISO 8601 with an offset (pure)."""

from __future__ import annotations

from datetime import datetime

from recado.gateway.problem import invalid

__all__ = ["checked_moment"]


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
    if not 1 <= moment < 2**53:
        raise invalid(field, f"{moment} must be milliseconds since 1970, 1 or more.")
    return moment
