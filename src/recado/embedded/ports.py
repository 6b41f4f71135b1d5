"""Free ports on loopback, and whether one is taken."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Collection

from recado.errors import EmbeddedKafkaError

__all__ = ["LOOPBACK", "free_port", "is_free"]

#: The only address that an embedded Kafka listens on.
LOOPBACK = "127.0.0.1"

#: Below every system's range of ephemeral ports (Linux starts at 32768): a port from that range could be taken by
#: anybody's outgoing connection while a broker restarts, or by a client that reconnects and meets itself.
_CHOICE = range(15_000, 32_000)

#: Attempts before giving up; with half of the range taken, the odds of failing are one in 10^30.
_ATTEMPTS = 100


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now. Raises OSError for other troubles."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the JVM does it: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_port(taken: Collection[int] = ()) -> int:
    """Return a port that is free now, outside the ephemeral range and not in ``taken``."""
    for _ in range(_ATTEMPTS):
        port = random.SystemRandom().choice(_CHOICE)
        if port not in taken and is_free(port):
            return port
    raise EmbeddedKafkaError(
        "No free port was found between 15000 and 32000. Close what listens there, or give --port."
    )
