"""Ask a broker two questions in Kafka's own protocol, to know that it is up rather than that a port is open."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recado.embedded.ports import LOOPBACK
from recado.errors import EmbeddedKafkaError

__all__ = ["Address", "answers", "listens", "live_brokers"]

#: ApiVersions request, version 0: allowed on every listener before authentication, known to every broker.
_API_VERSIONS = (18, 0, b"")

#: Metadata request, version 1, with an empty list of topics: who is alive. Old enough for every version here.
_METADATA = (3, 1, struct.pack(">i", 0))

#: One question on loopback: a healthy broker answers in milliseconds, a paused one never.
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where on loopback to ask; with ``ca_pem`` over TLS, checking the certificate for ``name`` by that authority."""

    port: int
    name: str = LOOPBACK
    ca_pem: Path | None = None


def answers(address: Address) -> bool:
    """Tell whether a Kafka broker answers there within two seconds.

    Raises EmbeddedKafkaError when its certificate is not for that name or not by that authority.
    """
    try:
        body = _ask(address, *_API_VERSIONS)
        return struct.unpack(">h", body[:2]) == (0,)
    except (OSError, struct.error):
        return False


def live_brokers(address: Address) -> frozenset[int]:
    """Return the ids of the brokers that take part (unfenced) in this one's view; none when it does not answer."""
    try:
        return frozenset(_broker_ids(_ask(address, *_METADATA)))
    except (OSError, struct.error):
        return frozenset()


def _broker_ids(body: bytes) -> Iterator[int]:
    """Read the start of a Metadata response: an array of id, host, port, and rack, which may be null (-1)."""
    (count,) = struct.unpack_from(">i", body)
    position = 4
    for _ in range(count):
        broker_id, host_bytes = struct.unpack_from(">ih", body, position)
        position += 6 + host_bytes + 4
        (rack_bytes,) = struct.unpack_from(">h", body, position)
        position += 2 + max(rack_bytes, 0)
        yield broker_id


def listens(server: str) -> bool:
    """Tell whether ``host:port`` (of any broker anywhere, secured or not) accepts a connection within two seconds."""
    host, _, port = server.strip().rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def _ask(address: Address, api_key: int, api_version: int, body: bytes) -> bytes:
    """Send one request with header version 1 (no client id) and return the response after its correlation id."""
    request = struct.pack(">hhih", api_key, api_version, 0, -1) + body
    with _connected(address) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size_bytes,) = struct.unpack(">i", _read(connection, 4))
        return _read(connection, size_bytes)[4:]


def _connected(address: Address) -> socket.socket:
    connection = socket.create_connection((LOOPBACK, address.port), timeout=_TIMEOUT_S)
    if address.ca_pem is None:
        return connection
    try:
        context = ssl.create_default_context(cafile=str(address.ca_pem))
        return context.wrap_socket(connection, server_hostname=address.name)
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise EmbeddedKafkaError(
            f"The broker's certificate does not hold for {address.name} ({error.verify_message}): give another one."
        ) from error
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
