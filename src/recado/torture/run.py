"""One run: set up, load, fault after fault, drain, read back, judge."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recado.embedded import ProgressCallback
from recado.torture.history import History, Request
from recado.torture.inflict import inflict
from recado.torture.judge import Ending, Judgement, judge
from recado.torture.plan import Fault, Plan
from recado.torture.programs import Surroundings, ask
from recado.torture.script import probe
from recado.torture.sender import Clock, Load, Target, ask_once, connect
from recado.torture.stage import TOPIC, Stage, set_up
from recado.torture.witness import read_topic

__all__ = ["Report", "Terms", "run"]

#: The gateway's own default, which the run leaves as it is: judged are the answers that users get.
DEFAULT_WAIT_S = 5.0

#: How long the last flush may take, in seconds: everything that was kept while Kafka was away gets through.
FLUSH_S = 120

#: Least quiet between two faults, in seconds, also when the run is behind its plan: that everything works again, and
#: the spool is empty, is a state that the next fault should meet, too.
QUIET_S = 3.0

#: How often the one who watches is told how far it is, in seconds.
TICK_S = 0.2


@dataclass(frozen=True, slots=True)
class Terms:
    """How to run a plan. ``environment`` is that of the programs; ``keep`` keeps Kafka's data and the spools."""

    folder: Path
    environment: Mapping[str, str]
    kafka_version: str
    rate: float
    senders: int
    keep: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told: ``say`` a line that stays, ``tick`` how far it is, ``kafka`` of Kafka's start."""

    say: Callable[[str], None]
    tick: Callable[[str], None]
    kafka: ProgressCallback


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to."""

    plan: Plan
    judgement: Judgement
    #: Answers by HTTP status, 0 where none came.
    statuses: Mapping[int, int]
    spool: bool
    folder: Path
    history: Path
    took_s: float

    def as_json(self) -> str:
        """Everything, for a program."""
        judgement = self.judgement
        checks = [{**dataclasses.asdict(check), "holds": check.holds} for check in judgement.checks]
        return json.dumps(
            {
                "verdict": "pass" if judgement.passed else "fail",
                "plan": dataclasses.asdict(self.plan),
                "spool": self.spool,
                "checks": checks,
                "figures": dict(judgement.figures),
                "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
                "took_s": round(self.took_s, 1),
                "folder": str(self.folder),
                "history": str(self.history),
            }
        )


def run(plan: Plan, terms: Terms, watch: Watch) -> Report:
    """Run a plan on a Kafka and gateways of its own, all of which are gone when this returns or raises.

    Raises TortureBroken or EmbeddedKafkaError where the run itself could not go on. Blocks; call it in the main
    thread. History and witness's records stay in ``terms.folder``; Kafka's data and the spools only with ``keep``
    or where a check failed.
    """
    began = time.monotonic()
    surroundings = Surroundings(terms.folder, environment=terms.environment, kafka_version=terms.kafka_version)
    clock = Clock()
    with History(terms.folder / "history.jsonl") as history:
        with set_up(
            surroundings,
            environment=terms.environment,
            kafka_version=terms.kafka_version,
            brokers=plan.brokers,
            gateways=plan.gateways,
            history=history,
            clock=clock,
            progress=watch.kafka,
        ) as stage:
            spool, endings = _torment(plan, terms, stage, watch)
            watch.tick("Reading the topic back with Kafka's own tools")
            found = read_topic(surroundings, TOPIC, terms.folder / "found.jsonl")
        statuses = Counter(entry.status for entry in history.entries if isinstance(entry, Request))
        judgement = judge(history.entries, found, endings)
    if judgement.passed and not terms.keep:
        _clear(stage)
    return Report(plan, judgement, statuses, spool, terms.folder, history.path, time.monotonic() - began)


def _torment(plan: Plan, terms: Terms, stage: Stage, watch: Watch) -> tuple[bool, list[Ending]]:
    targets = [Target(gateway.number, gateway.port, DEFAULT_WAIT_S) for gateway in stage.gateways]
    spool = _has_spool(stage, targets[0])
    if not spool:
        watch.say("The gateway has no spool: while Kafka is away it refuses (503) or does not know (504).")
    load = Load(
        targets=targets,
        topic=TOPIC,
        senders=terms.senders,
        rate=terms.rate,
        seed=plan.seed,
        history=stage.history,
        clock=stage.clock,
    )
    load.start()
    try:
        _strike(plan, stage, load, watch, spool=spool)
    finally:
        watch.tick("Waiting for the last answers")
        load.stop()
    return spool, _finish(stage, watch)


def _has_spool(stage: Stage, target: Target) -> bool:
    """Ask as a user would: only a gateway with a spool accepts (202) what prefers ``respond-async``."""
    connection = connect(target)
    request = ask_once(connection, probe(TOPIC), sender=-1, target=target, clock=stage.clock)
    connection.close()
    stage.history.add(request)
    return request.status == 202


def _strike(plan: Plan, stage: Stage, load: Load, watch: Watch, *, spool: bool) -> None:
    began_s = stage.clock.now()

    def hold_until(moment_s: float, doing: str) -> None:
        while (left_s := moment_s - stage.clock.now()) > 0:
            elapsed_s = stage.clock.now() - began_s
            watch.tick(f"{elapsed_s:5.0f} of {plan.seconds:.0f} s  {doing}  {_told(load.statuses)}")
            time.sleep(min(TICK_S, left_s))

    def hold_for(doing: str, seconds: float) -> None:
        hold_until(stage.clock.now() + seconds, doing)

    struck: set[str] = set()
    over_s = float("-inf")
    for number, fault in enumerate(plan.faults, 1):
        title = f"{number}/{len(plan.faults)} {_title(fault)}"
        if (reason := _impossible(fault, stage, spool=spool)) is not None:
            watch.say(f"{title}: left out, {reason}")
            continue
        # Where a broker takes long to come back the run falls behind its plan; then the time decides, but each kind
        # gets its turn.
        if stage.clock.now() - began_s > plan.seconds and fault.kind in struck:
            watch.say(f"{title}: left out, the time is over")
            continue
        struck.add(fault.kind)
        hold_until(max(began_s + fault.at_s, over_s + QUIET_S), "quiet")
        struck_s, before = stage.clock.now(), Counter(load.statuses)
        inflict(fault, stage, partial(hold_for, title))
        over_s = stage.clock.now()
        answers = _told(load.statuses - before)
        watch.say(f"{struck_s - began_s:6.1f} s  {title}, over after {over_s - struck_s:.1f} s  {answers}")
    hold_until(began_s + plan.seconds, "quiet")


def _impossible(fault: Fault, stage: Stage, *, spool: bool) -> str | None:
    """Why a fault means nothing here; None where it does."""
    if fault.kind != "full-disk":
        return None
    disk = stage.disks[fault.target]
    if isinstance(disk, str):
        return disk
    return None if spool else "the gateway has no spool"


def _finish(stage: Stage, watch: Watch) -> list[Ending]:
    """Let everything that was accepted get through, then end the gateways as an orderly machine would."""
    endings = []
    for gateway in stage.gateways:
        watch.tick(f"Flushing gateway {gateway.number}")
        status, body = ask(gateway.port, "POST", f"/flush?timeout={FLUSH_S}", timeout_s=FLUSH_S + 10.0)
        endings.append(Ending(gateway.number, status, body, gateway.end()))
    return endings


def _clear(stage: Stage) -> None:
    for gateway in stage.gateways:
        shutil.rmtree(gateway.folder, ignore_errors=True)
    shutil.rmtree(stage.surroundings.folder / "kafka", ignore_errors=True)


def _title(fault: Fault) -> str:
    whom = f" {fault.target}" if fault.target else ""
    return f"{fault.kind}{whom} for {fault.lasts_s:g} s"


def _told(statuses: Counter[int]) -> str:
    """Counts by status, as a person reads them."""
    told = " · ".join(f"{status or 'none'} {count}" for status, count in sorted(dict(statuses).items()))
    return f"answers: {told or 'not one'}"
