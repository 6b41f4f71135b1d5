"""A consumed record's headers, also where confluent_kafka cannot read them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from operator import methodcaller
from typing import Any, cast

from recado.kafka.abstract import Message

__all__ = ["UNREADABLE", "headers_of"]

#: Stands for a header's name that is not UTF-8: the client does not hand out its bytes.
UNREADABLE = "\N{REPLACEMENT CHARACTER}"


#: Asks from C, which looks whether an error is set. Python's own call does not once it is used often (3.11 and later):
#: the error would come up at another place, and the list with its hole be handed out.
_read = methodcaller("headers")


def headers_of(message: Message) -> Sequence[tuple[str, bytes | None]]:
    """A record's headers, none where it has none; a name that is not UTF-8 is ``UNREADABLE``. Never raises.

    confluent_kafka raises SystemError for such a name, and at the second question hands out the pairs with a hole in
    them, which ends the process. So the message is mended at once; only one thread at a time may have it.
    """
    try:
        return _read(message) or ()
    except (SystemError, UnicodeError):
        headers = _told(message)
        cast("Any", message).set_headers(headers)
        return headers


def _told(message: Message) -> list[tuple[str, bytes | None]]:
    """The pairs that the client made: looked at as the garbage collector does, which passes over their holes."""
    made = next((held for held in gc.get_referents(message) if isinstance(held, list)), [])
    return [(pair[0] if len(gc.get_referents(pair)) == 2 else UNREADABLE, pair[-1]) for pair in made]
