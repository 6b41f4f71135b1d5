"""Who of several worker processes holds what: by the coordinator's word, said again when it changes."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from recado.errors import RecadoError
from recado.kafka.groups import Group, Member
from recado.record import TopicPartition
from recado.settings import Settings
from recado.worker.reporting.apart import CoordinatorApart

__all__ = ["client_id", "shown", "watch_members"]

#: Rest between two questions, in seconds.
ASK_EVERY_S = 3.0


def client_id(settings: Settings, name: str) -> str:
    """By which name the coordinator shows a process."""
    given = {**settings.kafka, **settings.kafka_consumer}.get("client.id", "recado")
    return f"{given}-{name}"


def watch_members(settings: Settings, group: str, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Say on a thread what each process holds, whenever that has changed. Call it before there are others."""
    by_client = {client_id(settings, name): name for name in names}
    coordinator = CoordinatorApart(settings, group)

    def watch() -> None:
        said = ""
        while not threading.Event().wait(ASK_EVERY_S):
            try:
                found: Group = coordinator.ask("group", group)
            except RecadoError:
                continue  # the processes say so themselves
            now = shown(found.members, by_client)
            if found.state == "stable" and now != said:
                say(now)
                said = now

    threading.Thread(target=watch, name="members", daemon=True).start()


def shown(members: Iterable[Member], by_client: dict[str, str]) -> str:
    """One line: each process with its topics and partitions, then how many members run elsewhere."""
    held = dict.fromkeys(by_client.values(), "not a member")
    others = 0
    for member in members:
        name = by_client.get(member.client)
        if name is None:
            others += 1
        else:
            held[name] = _partitions(member.partitions)
    elsewhere = f" · {others} more elsewhere" if others else ""
    return " · ".join(f"{name}: {what}" for name, what in held.items()) + elsewhere


def _partitions(partitions: Iterable[TopicPartition]) -> str:
    by_topic: defaultdict[str, list[int]] = defaultdict(list)
    for topic, partition in sorted(partitions):
        by_topic[topic].append(partition)
    return ", ".join(f"{topic} {_ranges(numbers)}" for topic, numbers in by_topic.items()) or "nothing"


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers as a person writes them: 0-2,5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
