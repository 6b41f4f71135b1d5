"""The production server: granian around the ASGI front, and an orderly end."""

from __future__ import annotations

import asyncio
import errno
import gc
import resource
import signal
import socket
from collections.abc import Callable

import structlog
import uvloop
from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from recado.clock import Deadline
from recado.errors import ConfigurationError
from recado.gateway.asgi import Front
from recado.gateway.gateway import Gateway
from recado.gateway.intake import Left
from recado.gateway.routes import EXTENSION
from recado.gateway.wsgi import WsgiBridge

__all__ = ["gateway_of", "mounted_at", "require_free", "run"]

log = structlog.get_logger(__name__)

#: Connections that may wait to be accepted.
BACKLOG = 1024

#: Requests that may be under way at once; more wait in the backlog.
MAX_REQUESTS = 4096

#: A connection that has not sent its request's header by then is closed, in milliseconds.
HEADER_TIMEOUT_MS = 10_000

#: Container objects made before the collector looks: a request makes some fifty, none of them in a cycle.
GC_THRESHOLD = 50_000

#: After a second signal the producer gets so long to finish, in seconds; what it does not is in the spool.
HURRY_S = 1.0

#: So long before the end of a drain, in seconds, requests wait for Kafka no more: they are written down and answered.
ANSWER_S = 1.6

#: Most descriptors that the server asks for: each connection is one.
DESCRIPTORS = 65_536


def gateway_of(app: Flask) -> Gateway:
    """The gateway whose blueprint is registered in ``app``. Raises ConfigurationError where there is none."""
    gateway: Gateway | None = app.extensions.get(EXTENSION)
    if gateway is None:
        raise ConfigurationError("This Flask app has no recado routes: app.register_blueprint(recado.blueprint()).")
    return gateway


def run(app: Flask, *, on_ready: Callable[[str], None] = lambda url: None) -> int:
    """Serve a Flask app that has recado's blueprint until SIGTERM or SIGINT; return the exit code.

    0: everything that was taken is in Kafka, or its sender knows that it is not. 3: records were given up
    unconfirmed when ``drain_s`` ended (each was answered 504). ``on_ready`` is given the URL once it listens.
    """
    _raise_limit()
    return uvloop.run(_serve(app, on_ready))


def _raise_limit() -> None:
    """Ask for as many descriptors as this process may have: at the usual 1,024 a thousand connections are a wall."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(app: Flask, on_ready: Callable[[str], None]) -> int:
    gateway = gateway_of(app)
    settings = gateway.settings
    bridge = WsgiBridge(app, max_body_bytes=settings.max_body_bytes)
    prefixes = mounted_at(app)
    if not _is_plain(app):
        log.info("produce routes run inside Flask", why="the app has hooks that every request must pass")
        prefixes = []
    require_free(settings.host, settings.port)
    front = Front(gateway, prefixes=prefixes, fallback=bridge)
    await asyncio.to_thread(lambda: gateway.intake)
    server = Server(
        front,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        websockets=False,
        backlog=BACKLOG,
        backpressure=MAX_REQUESTS,
        log_enabled=False,
        log_access=False,
    )
    # What is there by now stays: the collector need not look at it again with every request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    stop, hurry = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: hurry.set() if stop.is_set() else stop.set())
    serving = asyncio.create_task(server.serve())
    on_ready(f"http://{settings.host}:{settings.port}")
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
        raise ConfigurationError("The HTTP server stopped by itself.")
    return await _drain(gateway, front, server, serving, hurry)


async def _drain(
    gateway: Gateway, front: Front, server: Server, serving: asyncio.Task[None], hurry: asyncio.Event
) -> int:
    settings = gateway.settings
    # Ready turns false first, and every answer closes its connection, so that a load balancer looks elsewhere before
    # the port closes.
    gateway.draining = True
    log.info("draining", requests=front.in_flight, records=gateway.intake.outstanding(), delay_s=settings.drain_delay_s)
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({hurried}, timeout=settings.drain_delay_s)
    deadline = Deadline(settings.drain_s)
    # Nothing new from here on: the port closes, idle connections too, and the requests under way are answered. Those
    # that would wait for Kafka beyond the deadline wait no longer, so that they are told what was kept of them.
    server.stop()
    await asyncio.wait(
        {serving, hurried}, timeout=max(0.0, settings.drain_s - ANSWER_S), return_when=asyncio.FIRST_COMPLETED
    )
    if hurry.is_set():
        log.warning("draining hurried by a second signal", requests=front.in_flight)
        deadline.shorten(ANSWER_S + HURRY_S)
    front.end_waits()
    await asyncio.wait({serving}, timeout=min(ANSWER_S, deadline.left_s()))
    # Last the producer: what a request handed over before its deadline may still arrive.
    closing = asyncio.create_task(asyncio.to_thread(gateway.close, deadline))
    await asyncio.wait({closing, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if hurry.is_set():
        deadline.shorten(HURRY_S)
    return _told(gateway, await closing)


def _told(gateway: Gateway, left: Left) -> int:
    """Say what remains; return the exit code."""
    path = str(gateway.settings.data_dir / "spool")
    if left.spooled:
        log.warning("stopped with records in the spool", records=left.spooled, path=path, then="sent at the next start")
    if left.refused:
        log.warning(
            "stopped with records that Kafka refused",
            records=left.refused,
            path=path,
            remedy="recado spool list --refused",
        )
    is_lost = left.unconfirmed > 0 and gateway.intake.spool is None
    if is_lost:
        log.warning("stopped with records unconfirmed", records=left.unconfirmed, answered="504 unknown")
    if left.spooled or left.refused or is_lost:
        return 3
    log.info("stopped", records_unconfirmed=0)
    return 0


def require_free(host: str, port: int) -> None:
    """Raise ConfigurationError when something listens there.

    The server shares ports (SO_REUSEPORT): without this look a second gateway would silently take half the requests
    of the first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                remedy = "Stop what listens there, or choose another: RECADO_PORT=5050"
                raise ConfigurationError(f"Port {port} on {host} is taken. {remedy}") from error
            raise ConfigurationError(
                f"Cannot listen on {host} port {port}: {error.strerror}. See RECADO_HOST."
            ) from error


def mounted_at(app: Flask) -> list[str]:
    """Where the app mounts recado's routes: ``""`` or a prefix, once for each registration."""
    rules = [rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.split(".")[-2:] == ["recado", "send"]]
    return [rule[: -len("/send")] for rule in rules]


def _is_plain(app: Flask) -> bool:
    """Tell whether answering past Flask skips nothing: no hook, no middleware, no routing by host."""
    hooks = (
        app.before_request_funcs,
        app.after_request_funcs,
        app.teardown_request_funcs,
        app.url_value_preprocessors,
    )
    hooked = any(functions for table in hooks for functions in table.values())
    wrapped = getattr(app.wsgi_app, "__func__", None) is not Flask.wsgi_app
    overridden = type(app) is not Flask
    return not (hooked or wrapped or overridden or app.url_map.host_matching or app.teardown_appcontext_funcs)
