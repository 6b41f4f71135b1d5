"""The ledger as `recado verify` makes it up, the program as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from recado.errors import TortureBroken
from recado.torture.programs import Surroundings

__all__ = ["Ledger", "read_ledger"]

#: It balances, or it does not.
CODES = (0, 1)


class Ledger(NamedTuple):
    """Whether it balances, and the sum of each column."""

    balanced: bool
    total: Mapping[str, int]


def read_ledger(surroundings: Surroundings, group: str, topics: Sequence[str]) -> Ledger:
    """The ledger of the group in its topics. Raises TortureBroken where it cannot be made up."""
    named = [word for topic in topics for word in ("--topic", topic)]
    lines = surroundings.recado(["verify", "--json", "--group", group, *named], codes=CODES)
    for line in lines:
        if line.startswith("{"):
            found = json.loads(line)
            return Ledger(found["balanced"], found["total"])
    raise TortureBroken("recado verify told nothing:\n" + "\n".join(lines))
