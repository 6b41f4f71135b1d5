"""The Flask blueprint: every route of recado, on any WSGI server, in anybody's Flask app."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from flask import Blueprint, Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from recado.errors import RecadoError, SpoolFailed
from recado.gateway.answer import Answer, answer, problem_answer
from recado.gateway.encoding import incomplete
from recado.gateway.gateway import Gateway, flush_answer
from recado.gateway.intake import Intake, delivery_of
from recado.gateway.openapi import docs_page, openapi
from recado.gateway.problem import Problem
from recado.gateway.reader import Reader, Submission
from recado.telemetry import metrics

__all__ = ["EXTENSION", "make_app", "make_blueprint"]

#: Where a Flask app keeps the gateway (``app.extensions``).
EXTENSION = "recado"

#: See ``asgi`` and ``waiting``: the same waits, in threads.
OVERDUE_S = 0.5
KEEP_S = 0.8
LEAVING_LOOKS = 20
LEAVING_S = 0.005
SLOW_DISK = "The disk of the spool does not answer, so nothing was accepted."

#: How much of a body is read at a time, in bytes.
CHUNK_BYTES = 65_536

#: Rest between two looks while flushing, in seconds.
FLUSH_LOOK_S = 0.005


def make_blueprint(gateway: Gateway) -> Blueprint:
    """Build the routes around a gateway. Register it once per app, under any ``url_prefix``."""
    routes = Blueprint("recado", __name__)

    @routes.record_once
    def _remember(state: object) -> None:
        app: Flask = state.app  # type: ignore[attr-defined]  # flask.sansio.BlueprintSetupState
        app.extensions[EXTENSION] = gateway

    @routes.post("/send")
    def send() -> Response:
        return _counted("send", _send(gateway, None))

    @routes.post("/send/<topic>")
    def send_raw(topic: str) -> Response:
        return _counted("send_raw", _send(gateway, topic))

    @routes.post("/flush")
    def flush() -> Response:
        return _counted("flush", _flush(gateway))

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
        for chunk in _body():
            reader.feed(chunk)
        submission = reader.finish()
        intake = gateway.intake
        is_fresh = gateway.refresh_topics(submission.wait_s) if intake.must_ask(submission) else True
        intake.admit(submission, is_fresh=is_fresh)
    except RecadoError as error:
        return problem_answer(Problem.of(error))
    base = _prefix("/send" if topic is None else f"/send/{topic}")
    given = _queue(intake, submission, base) if intake.must_queue(submission) else _produce(intake, submission, base)
    metrics.GATEWAY_SECONDS.observe(submission.records[0].topic, time.monotonic() - started)
    return given


def _produce(intake: Intake, submission: Submission, base: str) -> Answer:
    """Give the records to Kafka; those that it has not confirmed in time are written down before the answer."""
    confirmed, kept = threading.Event(), threading.Event()
    delivery = intake.open(submission, lambda delivery: confirmed.set())
    intake.send(delivery)
    if not confirmed.wait(min(submission.wait_s, OVERDUE_S)):
        intake.topics.suspect()
        confirmed.wait(max(0.0, submission.wait_s - OVERDUE_S))
    late = delivery.unconfirmed()
    if not late or intake.spool is None:
        return answer(delivery, submission.shape)
    keeping = intake.spool.keep(delivery, late, under_way=True, asked=False, on_end=kept.set)
    kept.wait(KEEP_S)
    intake.spool.withdraw(keeping)
    return answer(delivery, submission.shape, keeping, base=base)


def _queue(intake: Intake, submission: Submission, base: str) -> Answer:
    """Write the records down; then wait for their turn, unless the sender or an outage says not to."""
    spool = intake.spool
    assert spool is not None
    for _ in range(LEAVING_LOOKS):
        is_free = intake.way_is_free(submission)
        if is_free:
            return _produce(intake, submission, base)
        if is_free is None:
            break
        time.sleep(LEAVING_S)
    confirmed, kept = threading.Event(), threading.Event()
    deadline = time.monotonic() + submission.wait_s
    delivery = delivery_of(submission, lambda delivery: confirmed.set())
    records = range(len(submission.records))
    keeping = spool.keep(delivery, records, under_way=False, asked=submission.is_async, on_end=kept.set)
    kept.wait(KEEP_S)
    if spool.withdraw(keeping):
        return problem_answer(Problem.of(keeping.error or SpoolFailed(SLOW_DISK)))
    if keeping.is_kept and intake.may_wait(submission):
        confirmed.wait(max(0.0, deadline - time.monotonic()))
    spool.forget(keeping)
    return answer(delivery, submission.shape, keeping, base=base)


def _flush(gateway: Gateway) -> Answer:
    try:
        deadline = time.monotonic() + gateway.flush_timeout_s(request.query_string.decode("latin-1"))
    except Problem as problem:
        return problem_answer(problem)
    watch = gateway.intake.flush()
    while watch.pending() and time.monotonic() < deadline:
        time.sleep(FLUSH_LOOK_S)
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
