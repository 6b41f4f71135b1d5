"""A WSGI application as an ASGI one: the body is read whole on the loop, then a thread runs the application.

Existing adapters were measured to lose bodies on this server; this one buffers within a bound, checks the promised
length, and gives the application a body of known length.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recado.gateway.answer import problem_answer
from recado.gateway.encoding import incomplete, too_large
from recado.gateway.problem import Problem

__all__ = ["WsgiBridge"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: Threads for the application's own routes; produce requests take none.
THREADS = 32


class WsgiBridge:
    """Runs a WSGI application in threads, for an ASGI server."""

    def __init__(self, application: Wsgi, *, max_body_bytes: int) -> None:
        self._application = application
        self._max_body_bytes = max_body_bytes
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="recado-flask")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other kinds of ASGI traffic are refused."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        try:
            body = await self._body(scope, receive)
        except Problem as problem:
            given = problem_answer(problem)
            status, headers, body = given
        else:
            loop = asyncio.get_running_loop()
            status, headers, body = await loop.run_in_executor(self._threads, self._run, scope, body)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        promised = dict(scope["headers"]).get(b"content-length", b"0")
        if promised.isdigit() and int(promised) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        chunks, size = [], 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise incomplete("The connection broke off in the middle of the body.")
            chunk = event.get("body", b"")
            size += len(chunk)
            if size > self._max_body_bytes:
                raise too_large(self._max_body_bytes)
            chunks.append(chunk)
            if not event.get("more_body"):
                break
        if promised.isdigit() and size < int(promised):
            raise incomplete(f"Content-Length promised {int(promised)} bytes, {size} came.")
        return b"".join(chunks)

    def _run(self, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        written = io.BytesIO()

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], int]:
            started[:] = [(status, headers)]
            return written.write

        result = self._application(_environ(scope, body), start_response)
        try:
            for part in result:
                written.write(part)
        finally:
            if hasattr(result, "close"):
                result.close()
        status, headers = started[0]
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return int(status.split(" ", 1)[0]), raw, written.getvalue()


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    root = scope.get("root_path", "")
    server = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root,
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name or name in ("content-length", "transfer-encoding"):
            continue  # an underscore twin would pass for the header with dashes
        if name == "content-type":
            environ["CONTENT_TYPE"] = value
            continue
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
