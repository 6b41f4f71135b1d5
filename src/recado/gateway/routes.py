"""The Flask blueprint: every route of recado, on any WSGI server, in anybody's Flask app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from flask import Blueprint, Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from recado.errors import RecadoError
from recado.gateway.answer import Answer, answer, problem_answer
from recado.gateway.blocking import give
from recado.gateway.budget import RECORD_BYTES
from recado.gateway.docs_page import docs_page
from recado.gateway.encoding import incomplete
from recado.gateway.gateway import Gateway, flush_answer
from recado.gateway.letter_routes import add_letter_routes
from recado.gateway.messages import Messages
from recado.gateway.openapi import openapi
from recado.gateway.problem import Problem
from recado.gateway.reader import Reader
from recado.telemetry import metrics

__all__ = ["EXTENSION", "make_app", "make_blueprint"]

#: Where a Flask app keeps the gateway (``app.extensions``).
EXTENSION = "recado"

#: How much of a body is read at a time, in bytes.
CHUNK_BYTES = 65_536


class AnyId(BaseConverter):
    """An id of the sender's own may hold slashes: servers decode ``%2F`` before a route is looked for."""

    regex = ".+"
    part_isolating = False
    weight = 200


def make_blueprint(gateway: Gateway) -> Blueprint:
    """Build the routes around a gateway. Register it once per app, under any ``url_prefix``."""
    routes = Blueprint("recado", __name__)
    messages = Messages(gateway.settings)

    @routes.record_once
    def _remember(state: object) -> None:
        app: Flask = state.app  # type: ignore[attr-defined]  # flask.sansio.BlueprintSetupState
        app.extensions[EXTENSION] = gateway
        app.url_map.converters.setdefault("recado_id", AnyId)  # before the rules are added

    @routes.post("/send")
    def send() -> Response:
        return _counted("send", _send(gateway, None))

    @routes.post("/send/<topic>")
    def send_raw(topic: str) -> Response:
        return _counted("send_raw", _send(gateway, topic))

    @routes.post("/flush")
    def flush() -> Response:
        return _counted("flush", _flush(gateway))

    @routes.get("/messages/<topic>/<recado_id:id>")
    def message(topic: str, id: str) -> Response:  # noqa: A002 - as the description calls it
        return _counted("message", _asked(lambda query: messages.by_id(topic, id, query)))

    @routes.get("/messages/<topic>/<int:partition>/<int:offset>")
    def message_at(topic: str, partition: int, offset: int) -> Response:
        return _counted("message", _asked(lambda query: messages.at_offset(topic, partition, offset, query)))

    add_letter_routes(routes, gateway, lambda route, ask: _counted(route, _asked(ask)), _body)

    @routes.get("/health/live")
    def live() -> Response:
        return _response(gateway.live())

    @routes.get("/health/ready")
    def ready() -> Response:
        return _response(gateway.ready())

    @routes.get("/metrics")
    def prometheus() -> Response:
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    @routes.get("/openapi.json")
    def description() -> Response:
        return Response(openapi(gateway.settings.topic, _prefix("/openapi.json")), content_type="application/json")

    @routes.get("/docs")
    def docs() -> Response:
        return Response(docs_page(gateway.settings.topic, _prefix("/docs")), content_type="text/html")

    return routes


def make_app(gateway: Gateway) -> Flask:
    """The app around the blueprint: every error of its own is a problem document, too."""
    app = Flask("recado", static_folder=None)
    app.register_blueprint(make_blueprint(gateway))

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        code = (error.name or "error").lower().replace(" ", "-")
        problem = Problem(error.code or 500, code, error.name, error.description or error.name)
        response = _response(problem_answer(problem))
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response

    return app


def _prefix(route: str) -> str:
    """Where these routes are mounted, seen by a client: the app chose it when it registered the blueprint."""
    return request.script_root + request.path.removesuffix(route)


def _send(gateway: Gateway, topic: str | None) -> Answer:
    started = time.monotonic()
    try:
        query = request.query_string.decode("latin-1")
        reader = Reader(topic, query, _header_bytes(), settings=gateway.settings)
        gateway.budget.check(reader.expected or 0)
        with gateway.budget.holding() as holding:
            for chunk in _body():
                reader.feed(chunk)
                holding.grow(reader.size)
            submission = reader.finish()
            holding.grow(reader.size + RECORD_BYTES * len(submission.records))
            delivery, kept = give(gateway, submission)
            base = _prefix("/send" if topic is None else f"/send/{topic}")
            metrics.GATEWAY_SECONDS.observe(submission.records[0].topic, time.monotonic() - started)
            return answer(delivery, submission.shape, kept, base=base)
    except RecadoError as error:
        return problem_answer(Problem.of(error))


def _asked(ask: Callable[[str], Answer]) -> Answer:
    try:
        return ask(request.query_string.decode("latin-1"))
    except RecadoError as error:
        return problem_answer(Problem.of(error))


def _flush(gateway: Gateway) -> Answer:
    try:
        timeout_s = gateway.flush_timeout_s(request.query_string.decode("latin-1"))
    except Problem as problem:
        return problem_answer(problem)
    watch = gateway.intake.flush()
    watch.wait(timeout_s)
    return flush_answer(watch)


def _header_bytes() -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]


def _body() -> Iterator[bytes]:
    """The body as the WSGI server gives it. A server that cuts it short raises or just ends: see Reader.finish."""
    if "Transfer-Encoding" in request.headers and not request.environ.get("wsgi.input_terminated"):
        # Werkzeug would read nothing, and an empty record would be stored as delivered.
        detail = "This server cannot read a chunked body; send it with a Content-Length."
        raise Problem(411, "length-required", "Length required", detail, field="content-length")
    try:
        while chunk := request.stream.read(CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:  # a server's way to say that the client went away
        raise incomplete("The body broke off.") from error


def _counted(route: str, given: Answer) -> Response:
    metrics.GATEWAY_REQUESTS.add((route, str(given.status)))
    return _response(given)


def _response(given: Answer) -> Response:
    response = Response(given.body, given.status)
    for name, value in given.headers:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response
