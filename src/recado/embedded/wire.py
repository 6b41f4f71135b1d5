"""Ask a broker two questions in Kafka's own protocol, to know that it is up rather than that a port is open."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Address", "answers", "live_brokers"]

#: ApiVersions request, version 0: allowed on every listener before authentication, known to every broker.
_API_VERSIONS = (18, 0, b"")

#: Metadata request, version 1, with an empty list of topics: who is alive. Old enough for every version here.
_METADATA = (3, 1, struct.pack(">i", 0))

#: One question on loopback: a healthy broker answers in milliseconds, a paused one never.
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where to ask; with ``ca_pem`` over TLS, checking the certificate against that authority."""

    host: str
    port: int
    ca_pem: Path | None = None


def answers(address: Address) -> bool:
    """Tell whether a Kafka broker answers there within two seconds."""
    try:
        body = _ask(address, *_API_VERSIONS)
        return struct.unpack(">h", body[:2]) == (0,)
    except (OSError, struct.error):
        return False


def live_brokers(address: Address) -> int:
    """Return how many brokers of the cluster take part (unfenced) in this one's view; 0 when it does not answer."""
    try:
        (count,) = struct.unpack(">i", _ask(address, *_METADATA)[:4])
        return int(count)
    except (OSError, struct.error):
        return 0


def _ask(address: Address, api_key: int, api_version: int, body: bytes) -> bytes:
    """Send one request with header version 1 (no client id) and return the response after its correlation id."""
    request = struct.pack(">hhih", api_key, api_version, 0, -1) + body
    with _connected(address) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size_bytes,) = struct.unpack(">i", _read(connection, 4))
        return _read(connection, size_bytes)[4:]


def _connected(address: Address) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), timeout=_TIMEOUT_S)
    if address.ca_pem is None:
        return connection
    try:
        context = ssl.create_default_context(cafile=str(address.ca_pem))
        return context.wrap_socket(connection, server_hostname=address.host)
    except OSError:
        connection.close()
        raise


def _read(connection: socket.socket, size_bytes: int) -> bytes:
    content = b""
    while len(content) < size_bytes:
        chunk = connection.recv(size_bytes - len(content))
        if not chunk:
            raise ConnectionError("the connection ended in the middle of an answer")
        content += chunk
    return content
