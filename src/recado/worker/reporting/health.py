"""The worker's own port: alive, ready (or why not), metrics."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from recado.errors import ConfigurationError

__all__ = ["HealthPort", "Reason"]

log = structlog.get_logger(__name__)

#: How many ports above a taken one are tried: as many workers as one machine sensibly runs.
PORTS_TRIED = 64

#: How long ``close`` may wait for the port's thread to notice, in seconds.
CLOSE_S = 0.1

#: Why a worker is not ready: ``code`` and ``detail``, and where it concerns one record ``topic``, ``partition``, …
Reason = dict[str, Any]


class HealthPort:
    """Serves ``/health`` (all there is to say), ``/health/live``, ``/health/ready`` and ``/metrics`` until ``close``.

    From a thread of its own. ``reasons`` tells why it is not ready, ``why_dead`` why it is not live any more, ``more``
    what else is to be said.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        reasons: Callable[[], list[Reason]],
        why_dead: Callable[[], str] = str,
        more: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._server = _bind(host, port, _Sources(reasons, why_dead, more))
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(CLOSE_S,), name="recado-health", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Sources(NamedTuple):
    reasons: Callable[[], list[Reason]]
    why_dead: Callable[[], str]
    more: Callable[[], dict[str, Any]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Off: two workers on one machine must not share a port by accident.
    allow_reuse_port = False

    def __init__(self, address: tuple[str, int], sources: _Sources) -> None:
        self.sources = sources
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    #: A peer that says nothing is let go after so many seconds.
    timeout = 10

    def do_GET(self) -> None:
        path, sources = self.path.partition("?")[0], self.server.sources
        if path == "/health/live":
            why = sources.why_dead()
            self._answer(503 if why else 200, {"status": "not live", "detail": why} if why else {"status": "live"})
        elif path in ("/health", "/health/ready"):
            reasons = sources.reasons()
            found = {"status": "not ready" if reasons else "ready", "reasons": reasons}
            self._answer(503 if reasons else 200, found if path == "/health/ready" else {**found, **sources.more()})
        elif path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, generate_latest())
        else:
            paths = ["/health", "/health/live", "/health/ready", "/metrics"]
            self._answer(404, {"status": "not found", "paths": paths})

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Probes come every few seconds: they are not worth a line."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", msgspec.json.encode(body))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _bind(host: str, port: int, sources: _Sources) -> _Server:
    for candidate in [port] if port == 0 else range(port, min(port + PORTS_TRIED, 65536)):
        try:
            return _Server((host, candidate), sources)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(f"The health port {host}:{candidate} cannot be opened: {error}.") from error
    raise ConfigurationError(f"No free health port from {port} on; set RECADO_WORKER_PORT (0 takes any).")
