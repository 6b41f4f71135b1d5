"""The routes of dead letters, which answer where they are switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from flask import Blueprint, Response, request

from recado.gateway.answer import Answer
from recado.gateway.dead_letters import DeadLetters
from recado.gateway.encoding import incomplete
from recado.gateway.gateway import Gateway
from recado.gateway.parse import JSON
from recado.gateway.problem import Problem

__all__ = ["add_letter_routes"]

#: The largest body, in bytes: letters that are named one by one, or another value for one.
MAX_BODY_BYTES = 4_194_304

#: Runs what answers to a query string, turns errors into answers, and counts by route.
Answering = Callable[[str, Callable[[str], Answer]], Response]


def add_letter_routes(
    routes: Blueprint, gateway: Gateway, answering: Answering, chunks: Callable[[], Iterable[bytes]]
) -> None:
    """Add them to the blueprint; ``chunks`` reads the body of the request under way."""
    letters = DeadLetters(gateway.settings, leaving=lambda: gateway.draining)

    def look(ask: Callable[[str], Answer]) -> Response:
        def checked(query: str) -> Answer:
            _check_switch(gateway)
            return ask(query)

        return answering("dead_letters", checked)

    def change(ask: Callable[[str, bytes, str], Answer]) -> Response:
        def checked(query: str) -> Answer:
            _check_switch(gateway)
            return ask(query, _body(chunks()), f"HTTP client {request.remote_addr or '?'}")

        return answering("dead_letters", checked)

    @routes.get("/dead-letters")
    def dead_letters() -> Response:
        return look(letters.list)

    @routes.get("/dead-letters/<topic>/<int:partition>/<int:offset>")
    def dead_letter(topic: str, partition: int, offset: int) -> Response:
        return look(lambda query: letters.one(topic, partition, offset, query))

    @routes.post("/dead-letters/redrive")
    def redrive() -> Response:
        return change(lambda *asked: _located(letters.redrive(*asked)))

    @routes.post("/dead-letters/discard")
    def discard() -> Response:
        return change(letters.discard)

    @routes.get("/dead-letters/redrives")
    def redrives() -> Response:
        return look(letters.redrives)

    @routes.get("/dead-letters/redrives/<id>")
    def redrive_of(id: str) -> Response:  # noqa: A002 - as the description calls it
        return look(lambda query: letters.redrive_of(id, query))

    @routes.post("/dead-letters/redrives/<id>/stop")
    def stop(id: str) -> Response:  # noqa: A002 - as the description calls it
        return change(lambda query, *_: letters.stop(id, query))

    @routes.post("/dead-letters/redrives/<id>/resume")
    def resume(id: str) -> Response:  # noqa: A002 - as the description calls it
        return change(lambda query, body, _: _located(letters.resume(id, query, body)))


def _check_switch(gateway: Gateway) -> None:
    """These routes show payloads and settle letters for good, and who sends may not be who may do that."""
    if not gateway.settings.dead_letters_api:
        detail = "This gateway does not serve dead letters; RECADO_DEAD_LETTERS_API=on switches it on."
        raise Problem(403, "not-switched-on", "Not switched on", detail)


def _body(chunks: Iterable[bytes]) -> bytes:
    """The body, which must call itself JSON: so no page of another site can send it without being asked first."""
    if request.mimetype != JSON:
        raise Problem(415, "unsupported-media-type", "Unsupported media type", f"Send {JSON}.")
    body = b""
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            detail = f"The body is larger than {MAX_BODY_BYTES} bytes."
            raise Problem(413, "body-too-large", "Body too large", detail)
    if len(body) < (request.content_length or 0):
        raise incomplete(f"Content-Length promised {request.content_length} bytes, {len(body)} came.")
    return body


def _located(given: Answer) -> Answer:
    """Say where a redrive that was started can be asked for."""
    if given.status != 202:
        return given
    id_ = msgspec.json.decode(given.body)["id"]
    base = request.path.rpartition("/dead-letters/")[0]
    query = request.query_string.decode("latin-1")
    where = f"{request.script_root}{base}/dead-letters/redrives/{id_}{'?' if query else ''}{query}"
    return given._replace(headers=[*given.headers, (b"location", where.encode("latin-1", "replace"))])
