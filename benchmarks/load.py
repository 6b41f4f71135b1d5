"""A load generator that costs little: one thread, epoll, keep-alive connections, the same request over and over."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, field


@dataclass
class Result:
    """What one run saw. Latencies in seconds, sorted."""

    seconds: float
    statuses: dict[str, int]
    latencies: list[float] = field(repr=False)

    @property
    def requests(self) -> int:
        """Answers in all."""
        return sum(self.statuses.values())

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    def percentile_ms(self, share: float) -> float:
        """A latency percentile in milliseconds."""
        if not self.latencies:
            return float("nan")
        return 1000 * self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def request_bytes(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Render one keep-alive POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def run(port: int, request: bytes, *, connections: int, seconds: float) -> Result:
    """Send ``request`` on every connection, again as soon as its answer is whole, for so many seconds."""
    poller = select.epoll()
    sockets: dict[int, socket.socket] = {}
    unsent: dict[int, memoryview] = {}
    partial: dict[int, bytes] = {}
    sent_at: dict[int, float] = {}
    statuses: dict[str, int] = {}
    latencies: list[float] = []

    def push(number: int) -> None:
        rest = unsent.get(number) or memoryview(request)
        try:
            done = sockets[number].send(rest)
        except BlockingIOError:
            done = 0
        if done < len(rest):
            unsent[number] = rest[done:]
            poller.modify(number, select.EPOLLIN | select.EPOLLOUT)
        elif unsent.pop(number, None) is not None:
            poller.modify(number, select.EPOLLIN)

    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        poller.register(connection.fileno(), select.EPOLLIN)
    started = time.perf_counter()
    end = started + seconds
    for number in sockets:
        sent_at[number] = time.perf_counter()
        push(number)
    while (now := time.perf_counter()) < end:
        for number, events in poller.poll(min(0.1, end - now)):
            if events & select.EPOLLOUT:
                push(number)
            if not events & select.EPOLLIN:
                continue
            data = partial.pop(number, b"") + sockets[number].recv(262_144)
            if not data:
                raise ConnectionError("the server closed a connection")
            if not _whole(data):
                partial[number] = data
                continue
            now = time.perf_counter()
            status = data[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
            latencies.append(now - sent_at[number])
            sent_at[number] = now
            push(number)
    elapsed = time.perf_counter() - started
    for connection in sockets.values():
        connection.close()
    latencies.sort()
    return Result(elapsed, statuses, latencies)


def _whole(data: bytes) -> bool:
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    start = data.lower().find(b"content-length:", 0, head)
    if start < 0:
        return data.endswith(b"0\r\n\r\n")
    return len(data) - head - 4 >= int(data[start + 15 : data.find(b"\r", start)])
