"""Whether requests should come to a gateway, and what troubles it: for ``/health/ready`` and for metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from recado.errors import RecadoError
from recado.gateway.idempotency.once import Once
from recado.gateway.intake import Intake
from recado.telemetry.metrics import GATEWAY_IMPAIRED, GATEWAY_NOT_READY

__all__ = ["CODES", "Trouble", "expose", "troubles"]

#: Every code that a trouble may have, but for those of a gateway that could not even begin.
CODES = ("draining", "idempotency", "kafka-unreachable", "spool")


class Trouble(NamedTuple):
    """``code`` is stable, ``detail`` is for a person; ``refuses`` when requests should not come for its sake."""

    code: str
    detail: str
    refuses: bool


def troubles(
    intake: Intake | None, once: Once, *, draining: bool, cannot: RecadoError | None, servers: str
) -> list[Trouble]:
    """What troubles a gateway now (any thread; does not block). ``cannot`` is why it has no intake."""
    found: list[Trouble] = []
    if draining:
        found.append(Trouble("draining", "This gateway is shutting down.", refuses=True))
    if cannot is not None:  # the folder of the spool, or a setting of Kafka's
        found.append(Trouble(cannot.code, str(cannot), refuses=True))
    if intake is None:
        return found
    spool = intake.spool
    if not intake.topics.reachable:
        # With a spool requests are still welcome: taking them is what it is for. Only a gateway that never saw its
        # Kafka knows no topic that it could take them for.
        refuses = spool is None or intake.topics.is_blank
        found.append(Trouble("kafka-unreachable", f"No Kafka broker answers at {servers}.", refuses))
    if spool is not None and (why := spool.why_not()):
        found.append(Trouble("spool", why, refuses=True))
    if why := once.why_not():
        found.append(Trouble("idempotency", why, refuses=False))  # requests without a key are still welcome
    return found


def expose(ask: Callable[[], Sequence[Trouble]]) -> Callable[[], None]:
    """Let the metrics tell of a gateway's troubles from now on; returns how to end that."""

    def telling(*, refusing: bool) -> Callable[[], Iterator[tuple[tuple[str, ...], float]]]:
        def tell() -> Iterator[tuple[tuple[str, ...], float]]:
            there = {trouble.code for trouble in ask() if trouble.refuses is refusing}
            for code in sorted({*CODES, *there}):
                yield (code,), float(code in there)

        return tell

    ends = [GATEWAY_NOT_READY.tell(telling(refusing=True)), GATEWAY_IMPAIRED.tell(telling(refusing=False))]

    def end() -> None:
        for stop in ends:
            stop()

    return end
