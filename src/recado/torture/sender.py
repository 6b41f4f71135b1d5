"""One sender: asks, waits for the answer, writes both down, and only then asks again."""

from __future__ import annotations

import select
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from recado.torture.fates import UNKNOWN, read_answer
from recado.torture.history import Answered, History, Request
from recado.torture.script import Ask, Script

__all__ = ["Clock", "Load", "Target", "ask_once", "connect"]

#: How long a sender waits for an answer beyond the wait that it asked for, in seconds. A stopped gateway is out for
#: less; what answers later than this is as good as silent.
PATIENCE_S = 30.0

#: Rest after a refusal or a broken connection, in seconds: a caller that hammers a gateway which is away measures
#: nothing but itself.
REST_S = 0.2


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds since the run began."""

    began: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Tell the time."""
        return time.monotonic() - self.began


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway to send to: its number from 1, its port on loopback, and the wait that it has by default."""

    number: int
    port: int
    wait_s: float


class Load:
    """Senders, each in a thread, spread over the gateways. They share a rate and a history."""

    def __init__(
        self, *, targets: list[Target], topic: str, senders: int, rate: float, seed: int, history: History, clock: Clock
    ) -> None:
        self._history = history
        self._clock = clock
        self._every_s = senders / rate
        self._stop = threading.Event()
        #: Answers by status, 0 for none: what a person watches while it runs.
        self.statuses: Counter[int] = Counter()
        self._threads = [
            threading.Thread(
                target=self._send,
                args=(number, targets[number % len(targets)], Script(seed, number, topic)),
                name=f"sender-{number}",
                daemon=True,
            )
            for number in range(senders)
        ]

    def start(self) -> None:
        """Let every sender begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every sender have its last answer, and block until it has."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _send(self, number: int, target: Target, script: Script) -> None:
        connection: HTTPConnection | None = None
        next_at = time.monotonic() + self._every_s * (number / len(self._threads))
        while not self._stop.wait(max(0.0, next_at - time.monotonic())):
            # A sender that was held up goes on at its rate; it does not make up for what it missed.
            next_at = max(next_at, time.monotonic() - self._every_s) + self._every_s
            ask = script.next()
            if connection is None or _hung_up(connection):
                connection = connect(target)
            request = ask_once(connection, ask, sender=number, target=target, clock=self._clock)
            self._history.add(request)
            status = request.status
            self.statuses[status] += 1
            if status == 0:
                connection.close()
                connection = None
            if status in (0, 429, 503) and self._stop.wait(REST_S):
                break
        if connection is not None:
            connection.close()


def connect(target: Target) -> HTTPConnection:
    """A connection to a gateway, opened with its first request."""
    return HTTPConnection("127.0.0.1", target.port, timeout=target.wait_s + PATIENCE_S)


def ask_once(connection: HTTPConnection, ask: Ask, *, sender: int, target: Target, clock: Clock) -> Request:
    """Send one request, wait for its answer, and return both."""
    sent_s = clock.now()
    status, answers, error = _exchange(connection, ask)
    return Request(
        sender=sender,
        gateway=target.number,
        form=ask.form,
        prefer=ask.prefer,
        wait_s=target.wait_s if ask.wait_s is None else ask.wait_s,
        sent_s=sent_s,
        done_s=clock.now(),
        status=status,
        records=ask.records,
        answers=answers,
        error=error,
    )


def _hung_up(connection: HTTPConnection) -> bool:
    """Tell whether the gateway closed an idle connection: what is sent on it now would get no answer."""
    if connection.sock is None or not select.select([connection.sock], [], [], 0)[0]:
        return False
    connection.close()
    return True


def _exchange(connection: HTTPConnection, ask: Ask) -> tuple[int, tuple[Answered, ...], str]:
    """Send and read: status (0 for none), what it says of each record, and what was wrong."""
    nothing = (UNKNOWN,) * len(ask.records)
    try:
        connection.request("POST", ask.path, ask.body, ask.headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        return 0, nothing, f"{type(error).__name__}: {error}"
    if response.will_close:
        connection.close()
    try:
        media_type = response.headers.get("Content-Type", "")
        return response.status, read_answer(response.status, media_type, body, len(ask.records)), ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return response.status, nothing, f"not in the contract: {error!r}: {body[:300].decode('utf-8', 'replace')}"
