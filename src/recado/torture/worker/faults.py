"""The faults that strike workers, and how: each lasts for a while and leaves everything running again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from recado.torture.inflict import BROKER_FAULTS, Brokers, Hold
from recado.torture.plan import FAULTS as GATEWAY_FAULTS
from recado.torture.plan import Fault, Kind
from recado.torture.programs import Surroundings
from recado.torture.worker.member import Member

__all__ = ["FAULTS", "Scene", "inflict"]

#: How long a member that comes and goes is there, in seconds.
COME_AND_GO_S = 2.0

#: SIGTERMs in a storm.
STORM = 3

#: A pause that is over before anybody misses the member, in seconds.
BLINK_S = 2.0


class Scene(Brokers, Protocol):
    """What these faults strike."""

    @property
    def surroundings(self) -> Surroundings: ...

    @property
    def group(self) -> str: ...

    @property
    def workers(self) -> int: ...

    def worker(self, number: int) -> Member: ...

    def guest(self) -> Member: ...


#: Every kind of fault, by name.
FAULTS = {
    kind.name: kind
    for kind in (
        Kind("kill-worker", "SIGKILL a worker, start it again later", target="worker"),
        Kind("restart-worker", f"SIGTERM a worker and start it again, {STORM} times in a row", target="worker"),
        Kind("stop-worker", "SIGSTOP a worker, longer than its session; then SIGCONT", target="worker"),
        Kind("blink-worker", f"SIGSTOP a worker for {BLINK_S:g} s, again and again", target="worker"),
        Kind("come-and-go", f"a further member joins and leaves every {COME_AND_GO_S:g} s", target="none"),
        Kind("kill-all-workers", "SIGKILL every worker at once, start them again", target="none"),
        Kind("kill-coordinator", "SIGKILL the broker that coordinates the group, start it again", 3, "none"),
        *(GATEWAY_FAULTS[name] for name in BROKER_FAULTS),
    )
}


def inflict(fault: Fault, scene: Scene, hold: Hold) -> None:
    """Let one fault happen; return when what it struck runs again. Raises TortureBroken when it does not."""
    if fault.kind in BROKER_FAULTS:
        BROKER_FAULTS[fault.kind](fault, scene, hold)
    else:
        _FAULTS[fault.kind](fault, scene, hold)


def _kill_worker(fault: Fault, scene: Scene, hold: Hold) -> None:
    worker = scene.worker(fault.target)
    worker.kill()
    hold(fault.lasts_s)
    worker.start()


def _restart_worker(fault: Fault, scene: Scene, hold: Hold) -> None:
    worker = scene.worker(fault.target)
    for _ in range(STORM):
        worker.end()
        worker.start()
        hold(fault.lasts_s / STORM)


def _stop_worker(fault: Fault, scene: Scene, hold: Hold) -> None:
    worker = scene.worker(fault.target)
    worker.pause()
    try:
        hold(max(fault.lasts_s, worker.session_s + 2))
    finally:
        worker.resume()


def _blink_worker(fault: Fault, scene: Scene, hold: Hold) -> None:
    worker = scene.worker(fault.target)
    for _ in range(max(1, int(fault.lasts_s / BLINK_S / 2))):
        worker.pause()
        try:
            hold(BLINK_S)
        finally:
            worker.resume()
        hold(BLINK_S)


def _come_and_go(fault: Fault, scene: Scene, hold: Hold) -> None:
    guest = scene.guest()
    for _ in range(max(2, int(fault.lasts_s / COME_AND_GO_S / 2))):
        guest.start()
        hold(COME_AND_GO_S)
        guest.end()
        hold(COME_AND_GO_S)


def _kill_all_workers(fault: Fault, scene: Scene, hold: Hold) -> None:
    workers = [scene.worker(number) for number in range(1, scene.workers + 1)]
    for worker in workers:
        worker.kill()
    hold(fault.lasts_s)
    for worker in workers:
        worker.start()


def _kill_coordinator(fault: Fault, scene: Scene, hold: Hold) -> None:
    broker = _coordinator(scene)
    scene.kafka.kill(broker)
    hold(fault.lasts_s)
    scene.kafka.restart_broker(broker)


def _coordinator(scene: Scene) -> int:
    lines = scene.surroundings.tool("consumer-groups", ["--describe", "--state", "--group", scene.group])
    for line in lines:
        if line.strip().startswith(scene.group) and (found := re.search(r":\d+\s+\((\d+)\)", line)):
            return int(found[1])
    return 1  # it is just moving: any broker is a good victim


_FAULTS: dict[str, Callable[[Fault, Scene, Hold], None]] = {
    "kill-worker": _kill_worker,
    "restart-worker": _restart_worker,
    "stop-worker": _stop_worker,
    "blink-worker": _blink_worker,
    "come-and-go": _come_and_go,
    "kill-all-workers": _kill_all_workers,
    "kill-coordinator": _kill_coordinator,
}
