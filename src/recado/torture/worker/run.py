"""One run: set up, feed, fault after fault, drain, read back, judge."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recado.errors import TortureBroken
from recado.torture.inflict import BROKER_FAULTS
from recado.torture.judge import Judgement
from recado.torture.plan import Fault, Plan
from recado.torture.programs import Surroundings
from recado.torture.run import QUIET_S, TICK_S, Watch
from recado.torture.worker.away import read_dead, waiting
from recado.torture.worker.commits import read_commits
from recado.torture.worker.faults import inflict
from recado.torture.worker.journal import read_journals
from recado.torture.worker.judge import Evidence, judge
from recado.torture.worker.ledger import read_ledger
from recado.torture.worker.rebalances import read_rebalances
from recado.torture.worker.stage import Membership, Stage, set_up

__all__ = ["Report", "Terms", "run"]

#: How long the workers may take to come to the end of every partition when all faults are over, in seconds.
CATCH_UP_S = 180.0

#: After a broker is back its groups are loaded and clients find them, in seconds: commits may fail until then.
LOADING_S = 10.0

_END = re.compile(r"([^:]+):(\d+):(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Terms:
    """How to run a plan. ``environment`` is that of the programs; ``keep`` keeps Kafka's data."""

    folder: Path
    environment: Mapping[str, str]
    kafka_version: str
    target: str
    group: str
    topics: Sequence[str]
    #: Those whose handler keeps a failed key's order.
    kept: frozenset[str]
    membership: Membership
    rate: float
    keep: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to."""

    plan: Plan
    membership: Membership
    judgement: Judgement
    folder: Path
    took_s: float

    def as_json(self) -> str:
        """Everything, for a program."""
        checks = [{**dataclasses.asdict(check), "holds": check.holds} for check in self.judgement.checks]
        return json.dumps(
            {
                "verdict": "pass" if self.judgement.passed else "fail",
                "plan": dataclasses.asdict(self.plan),
                "membership": dataclasses.asdict(self.membership),
                "checks": checks,
                "figures": dict(self.judgement.figures),
                "took_s": round(self.took_s, 1),
                "folder": str(self.folder),
            }
        )


def run(plan: Plan, terms: Terms, watch: Watch) -> Report:
    """Run a plan on a Kafka and workers of its own, all of which are gone when this returns or raises.

    Raises TortureBroken or EmbeddedKafkaError where the run itself could not go on. Blocks; call it in the main
    thread. Journals and logs stay in ``terms.folder``; Kafka's data only with ``keep`` or where a check failed.
    """
    began = time.monotonic()
    surroundings = Surroundings(terms.folder, environment=terms.environment, kafka_version=terms.kafka_version)
    with set_up(
        surroundings,
        environment=terms.environment,
        kafka_version=terms.kafka_version,
        brokers=plan.brokers,
        workers=plan.workers,
        target=terms.target,
        group=terms.group,
        topics=terms.topics,
        membership=terms.membership,
        rate=terms.rate,
        progress=watch.kafka,
    ) as stage:
        troubles = _strike(plan, stage, watch)
        watch.tick("Waiting for the feed's last confirmations")
        stage.feed.stop()
        ends = _ends(stage, terms.topics)
        _catch_up(stage, ends, watch)
        codes = [member.end() for member in stage.members]
        watch.tick("Reading commits and dead letters with Kafka's own tools")
        commits, dead = read_commits(surroundings, terms.group), read_dead(surroundings, terms.group, terms.topics)
        watch.tick("Making up the ledger")
        ledger = read_ledger(surroundings, terms.group, terms.topics)
    lives = {life.name: life for member in (*stage.members, stage.visitor) for life in member.lives}
    watch.tick("Judging")
    calls = read_journals([terms.folder / f"{name}.journal" for name in lives], lives)
    rebalanced = read_rebalances(terms.folder / "kafka", terms.group)
    evidence = Evidence(
        acked=stage.feed.acked,
        calls=calls,
        commits=commits,
        dead=dead,
        troubles=troubles,
        ends=ends,
        codes=codes,
        rebalances=rebalanced,
        kept=terms.kept,
        ledger=ledger,
    )
    judgement = judge(evidence)
    if judgement.passed and not terms.keep:
        shutil.rmtree(terms.folder / "kafka", ignore_errors=True)
    return Report(plan, terms.membership, judgement, terms.folder, time.monotonic() - began)


def _strike(plan: Plan, stage: Stage, watch: Watch) -> list[tuple[int, int]]:
    """Let the faults happen; return when brokers were away."""
    began_s = time.monotonic()

    def hold_until(moment_s: float, doing: str) -> None:
        while (left_s := moment_s - time.monotonic()) > 0:
            stage.feed.check()
            for member in stage.members:
                member.check()
            elapsed_s = time.monotonic() - began_s
            watch.tick(f"{elapsed_s:5.0f} of {plan.seconds:.0f} s  {doing}  confirmed: {len(stage.feed.acked)}")
            time.sleep(min(TICK_S, left_s))

    def hold_for(doing: str, seconds: float) -> None:
        hold_until(time.monotonic() + seconds, doing)

    troubles: list[tuple[int, int]] = []
    struck: set[str] = set()
    over_s = float("-inf")
    for number, fault in enumerate(plan.faults, 1):
        title = f"{number}/{len(plan.faults)} {_title(fault)}"
        if time.monotonic() - began_s > plan.seconds and fault.kind in struck:
            watch.say(f"{title}: left out, the time is over")
            continue
        struck.add(fault.kind)
        hold_until(max(began_s + fault.at_s, over_s + QUIET_S), "quiet")
        from_ns, struck_s = time.time_ns(), time.monotonic()
        inflict(fault, stage, partial(hold_for, title))
        over_s = time.monotonic()
        if fault.kind in BROKER_FAULTS or fault.kind == "kill-coordinator":
            troubles.append((from_ns, time.time_ns() + int(LOADING_S * 1e9)))
        watch.say(f"{struck_s - began_s:6.1f} s  {title}, over after {over_s - struck_s:.1f} s")
    hold_until(began_s + plan.seconds, "quiet")
    return troubles


def _ends(stage: Stage, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    ends = {}
    for topic in topics:
        for line in stage.surroundings.tool("get-offsets", ["--topic", topic, "--time", "latest"]):
            if found := _END.match(line):
                ends[found[1], int(found[2])] = int(found[3])
    return ends


def _catch_up(stage: Stage, ends: Mapping[tuple[str, int], int], watch: Watch) -> None:
    deadline = time.monotonic() + CATCH_UP_S
    while (left := _lag(stage, ends) or waiting(stage.surroundings, stage.group)) and time.monotonic() < deadline:
        watch.tick(f"Waiting until the workers have caught up: {left} records are left")
        for member in stage.members:
            member.check()
        time.sleep(TICK_S)


def _lag(stage: Stage, ends: Mapping[tuple[str, int], int]) -> int:
    """How many records the group has not committed, by Kafka's own word."""
    committed: dict[tuple[str, int], int] = {}
    try:
        for line in stage.surroundings.tool("consumer-groups", ["--describe", "--offsets", "--group", stage.group]):
            words = line.split()
            if len(words) > 3 and words[0] == stage.group and words[3].isdigit():
                committed[words[1], int(words[2])] = int(words[3])
    except TortureBroken:  # the coordinator is being loaded
        return sum(ends.values())
    return sum(max(0, end - committed.get(where, 0)) for where, end in ends.items())


def _title(fault: Fault) -> str:
    whom = f" {fault.target}" if fault.target else ""
    return f"{fault.kind}{whom} for {fault.lasts_s:g} s"
