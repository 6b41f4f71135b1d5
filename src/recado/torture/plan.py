"""The plan of a run: which fault strikes when, for how long, and whom; pure, so that a seed repeats it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from recado.errors import ConfigurationError

__all__ = ["FAULTS", "Fault", "Kind", "Plan", "make_plan"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: what a person reads of it, and what it needs."""

    name: str
    says: str
    #: Fewest brokers with which it means anything.
    brokers: int = 1
    #: Whether it strikes a broker, a gateway, a worker, or needs no choice.
    target: str = "broker"


#: Every kind of fault, by name.
FAULTS = {
    kind.name: kind
    for kind in (
        Kind("kill-broker", "SIGKILL a broker, start it again later"),
        Kind("stop-broker", "SIGSTOP a broker: it keeps its connections and answers nothing; then SIGCONT"),
        Kind("restart-broker", "stop a broker cleanly and start it again"),
        Kind("roll-brokers", "SIGKILL every broker, one after the other, each back before the next", 3, "all"),
        Kind("unmet-isr", "demand three in-sync replicas and SIGKILL a broker: Kafka refuses writes", 3),
        Kind("kill-gateway", "SIGKILL a gateway and start it again", target="gateway"),
        Kind("restart-gateway", "SIGTERM a gateway, wait for its end, start it again", target="gateway"),
        Kind("stop-gateway", "SIGSTOP a gateway, then SIGCONT", target="gateway"),
        Kind(
            "kill-both",
            "SIGKILL every broker and a gateway, and the gateway again when Kafka is back",
            target="gateway",
        ),
        Kind(
            "full-disk",
            "SIGKILL every broker, fill the disk of a gateway's spool, SIGKILL the gateway; then undo all",
            target="gateway",
        ),
    )
}

#: Share of a fault's span for which it lasts; the rest is quiet, for what was kept to get through.
LASTS_SHARE = (0.3, 0.55)

#: Shortest span from one fault to the next, in seconds: less and a single broker is not back.
SHORTEST_SPAN_S = 4.0

#: Longest span, in seconds, for one broker and for several: more and a run of minutes shows little. Of three brokers
#: each took 10 to 20 s to take part again, on two cores.
LONGEST_SPAN_S = (16.0, 30.0)

#: Quiet before the first fault, in seconds: a record or two should be there to lose.
LEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``target`` is the number (from 1) of the broker or the gateway that it strikes, 0 for all."""

    kind: str
    at_s: float
    lasts_s: float
    target: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: the same seed and the same terms give the same plan."""

    seed: int
    seconds: float
    brokers: int
    gateways: int
    faults: tuple[Fault, ...]
    #: A line for each kind that cannot strike here, with the reason.
    left_out: tuple[str, ...] = ()
    workers: int = 0


def make_plan(
    *,
    seed: int,
    seconds: float,
    brokers: int,
    gateways: int = 0,
    workers: int = 0,
    kinds: Iterable[str] = (),
    known: Mapping[str, Kind] = FAULTS,
) -> Plan:
    """Return the plan of a seed. ``kinds`` names the faults to choose from; none means all that fit.

    Every kind comes once before any comes again, as far as the time allows. Raises ConfigurationError for a kind
    that does not exist.
    """
    wanted = tuple(dict.fromkeys(kinds)) or tuple(known)
    for name in wanted:
        if name not in known:
            raise ConfigurationError(f"There is no fault {name!r}; there are: {', '.join(known)}.")
    fit = [known[name] for name in wanted if known[name].brokers <= brokers]
    left_out = tuple(f"{name} needs {known[name].brokers} brokers" for name in wanted if known[name] not in fit)
    targets = {"broker": brokers, "gateway": gateways, "worker": workers}
    faults = tuple(_schedule(random.Random(seed), seconds, fit, targets)) if fit else ()  # noqa: S311
    return Plan(seed, seconds, brokers, gateways, faults, left_out, workers)


def _schedule(
    chance: random.Random, seconds: float, kinds: Sequence[Kind], targets: Mapping[str, int]
) -> Iterable[Fault]:
    longest_s = LONGEST_SPAN_S[targets["broker"] > 1]
    span_s = min(max(SHORTEST_SPAN_S, (seconds - LEAD_S) / len(kinds)), longest_s)
    at_s = LEAD_S
    while True:
        for kind in chance.sample(kinds, len(kinds)):
            lasts_s = span_s * chance.uniform(*LASTS_SHARE)
            whom = targets.get(kind.target)
            target = chance.randint(1, whom) if whom else 0
            if at_s > LEAD_S and at_s + lasts_s > seconds:
                return
            yield Fault(kind.name, round(at_s, 1), round(lasts_s, 1), target)
            at_s += span_s
