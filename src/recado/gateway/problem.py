"""Errors as HTTP shows them: RFC 9457 problem documents with a stable ``code``."""

from __future__ import annotations

from typing import Any

import msgspec

from recado.errors import (
    Backpressure,
    DeliveryFailed,
    DeliveryUnknown,
    KafkaUnreachable,
    NotAllowed,
    RecadoError,
    RecordTooLarge,
    RedriveRunning,
    SpoolFailed,
    SpoolFull,
    TakenOver,
    UnknownLetter,
    UnknownRedrive,
    UnknownTopic,
)

__all__ = ["Problem", "document", "invalid", "retry_after", "status_of", "title_of"]

#: Media type of every error (RFC 9457, section 3).
MEDIA_TYPE = "application/problem+json"

#: One table: what an error means in HTTP. DeliveryFailed is 422: the broker looked at the record and refused it.
_STATUS: dict[type[RecadoError], tuple[int, str]] = {
    UnknownTopic: (404, "No such topic"),
    UnknownLetter: (404, "No such dead letter"),
    UnknownRedrive: (404, "No such redrive"),
    RedriveRunning: (409, "A redrive is under way"),
    TakenOver: (409, "Another program settles letters of this group"),
    NotAllowed: (403, "Not allowed"),
    RecordTooLarge: (413, "Record too large"),
    Backpressure: (429, "Too much in flight"),
    DeliveryFailed: (422, "Kafka refused the record"),
    KafkaUnreachable: (503, "Kafka is unreachable"),
    SpoolFull: (503, "The spool is full"),
    SpoolFailed: (503, "The spool cannot be written"),
    DeliveryUnknown: (504, "No confirmation in time"),
}

#: How long a client should wait before it tries again, in seconds, where trying again makes sense.
_RETRY_AFTER_S = {429: 1, 503: 1}


class Problem(RecadoError):
    """A request that is refused: nothing of it was produced. ``extensions`` go into the document as they are."""

    def __init__(self, status: int, code: str, title: str, detail: str, **extensions: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.extensions = extensions

    @classmethod
    def of(cls, error: RecadoError, **extensions: Any) -> Problem:
        """The problem that an error of recado's is in HTTP."""
        if isinstance(error, Problem):
            error.extensions = {**error.extensions, **extensions}
            return error
        return cls(status_of(error), error.code, title_of(error), str(error), **extensions)


def invalid(field: str, detail: str, **where: Any) -> Problem:
    """A field that is wrong, by its name."""
    return Problem(422, "invalid-field", "A field is wrong", f"{field}: {detail}", field=field, **where)


def status_of(error: RecadoError) -> int:
    """The HTTP status that tells the truth about an error."""
    if isinstance(error, Problem):
        return error.status
    return _STATUS.get(type(error), (500, ""))[0]


def title_of(error: RecadoError) -> str:
    """A short title that is the same for every occurrence of the error."""
    return _STATUS.get(type(error), (500, "Internal error"))[1]


def retry_after(status: int) -> list[tuple[bytes, bytes]]:
    """The header Retry-After, for a status after which trying again makes sense."""
    return [(b"retry-after", str(_RETRY_AFTER_S[status]).encode())] if status in _RETRY_AFTER_S else []


def document(problem: Problem) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Render (status, headers, body)."""
    headers = [(b"content-type", MEDIA_TYPE.encode()), *retry_after(problem.status)]
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": str(problem),
        **problem.extensions,
    }
    return problem.status, headers, msgspec.json.encode(body)
