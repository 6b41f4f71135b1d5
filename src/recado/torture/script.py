"""What one sender sends: its requests in order, in every form that the gateway takes."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass

from recado.torture.history import Sent

__all__ = ["Ask", "Script", "probe"]

#: Keys of one sender: few, so that a key's records follow one another closely.
KEYS = 5

#: Records in a request of many, at most.
MOST = 12

#: Forms of a request, by weight: one JSON object, its value as a raw body, an array, lines.
FORMS = {"object": 55, "raw": 15, "array": 15, "lines": 15}

#: What is preferred, by weight. The empty one leaves the wait to RECADO_WAIT_S.
PREFERENCES = {"": 45, "respond-async": 25, "wait=1": 15, "wait=3": 15}

#: Padding of a value, in bytes: most records are small, some are not.
PADDING = (0, 0, 20, 200, 2000)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, ready to be sent. ``wait_s`` is None where it asks for none."""

    form: str
    prefer: str
    wait_s: float | None
    path: str
    headers: dict[str, str]
    body: bytes
    records: tuple[Sent, ...]


class Script:
    """Gives a sender its requests; the same seed gives the same ones. A key belongs to one sender alone."""

    def __init__(self, seed: int, sender: int, topic: str) -> None:
        self._chance = random.Random(f"{seed}/{sender}")  # noqa: S311 - to be repeated, not to be secret
        self._keys = [f"s{sender}-k{number}" for number in range(1, KEYS + 1)]
        self._last: Counter[str] = Counter()
        self._topic = topic

    def next(self) -> Ask:
        """The next request: each of its records has the next number of its key."""
        form, prefer = self._pick(FORMS), self._pick(PREFERENCES)
        count = self._chance.randint(2, MOST) if form in ("array", "lines") else 1
        records = tuple(self._record() for _ in range(count))
        values = [{"key": r.key, "number": r.number, "pad": "x" * self._chance.choice(PADDING)} for r in records]
        headers = {"Prefer": prefer} if prefer else {}
        wait_s = float(prefer.removeprefix("wait=")) if prefer.startswith("wait=") else None
        objects = [{"message": v, "key": r.key, "topic": self._topic} for v, r in zip(values, records, strict=True)]
        path, media, body = "/send", "application/json", json.dumps(objects[0])
        if form == "raw":
            path, body = f"/send/{self._topic}?key={records[0].key}", json.dumps(values[0])
        elif form == "array":
            body = json.dumps(objects)
        elif form == "lines":
            media, body = "application/x-ndjson", "".join(json.dumps(item) + "\n" for item in objects)
        return Ask(form, prefer, wait_s, path, {"Content-Type": media, **headers}, body.encode(), records)

    def _record(self) -> Sent:
        key = self._chance.choice(self._keys)
        self._last[key] += 1
        return Sent(key, self._last[key])

    def _pick(self, weights: dict[str, int]) -> str:
        return self._chance.choices(list(weights), list(weights.values()))[0]


def probe(topic: str) -> Ask:
    """A request that a gateway with a spool accepts (202) and one without answers otherwise."""
    sent = Sent("probe", 1)
    value = {"key": sent.key, "number": sent.number}
    body = json.dumps({"message": value, "key": sent.key, "topic": topic}).encode()
    headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
    return Ask("object", "respond-async", None, "/send", headers, body, (sent,))
