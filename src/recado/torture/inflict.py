"""The faults themselves: each strikes, lasts, and leaves everything running again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from recado.embedded import EmbeddedKafka
from recado.torture.plan import Fault
from recado.torture.programs import Gateway
from recado.torture.stage import Stage

__all__ = ["BROKER_FAULTS", "Brokers", "Hold", "inflict"]


class Brokers(Protocol):
    """What the faults of brokers strike."""

    @property
    def kafka(self) -> EmbeddedKafka: ...

    @property
    def brokers(self) -> int: ...


#: Blocks for so many seconds, and shows a person what goes on meanwhile.
Hold = Callable[[float], None]

#: In-sync replicas that the topic demands, of three: what the embedded cluster sets, and more than are left when one
#: is away.
_IN_SYNC, _ALL_IN_SYNC = 2, 3


def inflict(fault: Fault, stage: Stage, hold: Hold) -> None:
    """Let one fault happen; return when what it struck answers again. Raises TortureBroken when it does not."""
    _FAULTS[fault.kind](fault, stage, hold)


def _kill_broker(fault: Fault, stage: Brokers, hold: Hold) -> None:
    stage.kafka.kill(fault.target)
    hold(fault.lasts_s)
    stage.kafka.restart_broker(fault.target)


def _stop_broker(fault: Fault, stage: Brokers, hold: Hold) -> None:
    stage.kafka.pause(fault.target)
    try:
        hold(fault.lasts_s)
    finally:
        stage.kafka.resume(fault.target)
    stage.kafka.start()


def _restart_broker(fault: Fault, stage: Brokers, hold: Hold) -> None:
    stage.kafka.restart_broker(fault.target)
    hold(fault.lasts_s)


def _roll_brokers(fault: Fault, stage: Brokers, hold: Hold) -> None:
    for broker in range(1, stage.brokers + 1):
        stage.kafka.kill(broker)
        hold(fault.lasts_s / stage.brokers)
        stage.kafka.restart_broker(broker)


def _unmet_isr(fault: Fault, stage: Stage, hold: Hold) -> None:
    stage.alter_topic(f"min.insync.replicas={_ALL_IN_SYNC}")
    stage.kafka.kill(fault.target)
    hold(fault.lasts_s)
    stage.kafka.restart_broker(fault.target)
    stage.alter_topic(f"min.insync.replicas={_IN_SYNC}")


def _kill_gateway(fault: Fault, stage: Stage, hold: Hold) -> None:
    gateway = stage.gateway(fault.target)
    with stage.out(gateway, fault.kind):
        gateway.kill()
        hold(fault.lasts_s)
        gateway.start()


def _restart_gateway(fault: Fault, stage: Stage, hold: Hold) -> None:
    gateway = stage.gateway(fault.target)
    with stage.out(gateway, fault.kind) as words:
        # 3 is allowed (it left work behind, and keeps it), so it is written down and not judged.
        words.append(f"exit code {gateway.end()}")
        gateway.start()
    hold(fault.lasts_s)


def _stop_gateway(fault: Fault, stage: Stage, hold: Hold) -> None:
    gateway = stage.gateway(fault.target)
    with stage.out(gateway, fault.kind):
        gateway.pause()
        try:
            hold(fault.lasts_s)
        finally:
            gateway.resume()


def _kill_both(fault: Fault, stage: Stage, hold: Hold) -> None:
    """The worst hour of a spool: what it accepted must outlive its own death, while Kafka is away and once it is back.

    The second death comes while the spool is being emptied: what was sent and not yet struck off comes twice.
    """
    gateway = stage.gateway(fault.target)
    _kill_all_brokers(stage)
    hold(fault.lasts_s / 2)
    _die_and_rise(gateway, fault, stage)
    hold(fault.lasts_s / 2)
    stage.kafka.start()
    _die_and_rise(gateway, fault, stage)


def _die_and_rise(gateway: Gateway, fault: Fault, stage: Stage) -> None:
    with stage.out(gateway, fault.kind):
        gateway.kill()
        gateway.start()


def _full_disk(fault: Fault, stage: Stage, hold: Hold) -> None:
    """What a full disk took nevertheless (202) must be there when its gateway dies before anything is forwarded."""
    disk, gateway = stage.disks[fault.target], stage.gateway(fault.target)
    assert not isinstance(disk, str)  # the run leaves this fault out where there is none
    # In this order: a spool that is being emptied would make room by itself.
    _kill_all_brokers(stage)
    disk.fill()
    hold(fault.lasts_s)
    with stage.out(gateway, fault.kind):
        gateway.kill()
        disk.make_room()
        gateway.start()
    stage.kafka.start()


def _kill_all_brokers(stage: Stage) -> None:
    for broker in range(1, stage.brokers + 1):
        stage.kafka.kill(broker)


#: The faults that strike brokers alone.
BROKER_FAULTS: dict[str, Callable[[Fault, Brokers, Hold], None]] = {
    "kill-broker": _kill_broker,
    "stop-broker": _stop_broker,
    "restart-broker": _restart_broker,
    "roll-brokers": _roll_brokers,
}

_FAULTS: dict[str, Callable[[Fault, Stage, Hold], None]] = {
    **BROKER_FAULTS,
    "unmet-isr": _unmet_isr,
    "kill-gateway": _kill_gateway,
    "restart-gateway": _restart_gateway,
    "stop-gateway": _stop_gateway,
    "kill-both": _kill_both,
    "full-disk": _full_disk,
}
