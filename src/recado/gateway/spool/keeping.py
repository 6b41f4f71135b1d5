"""One request's records on their way into the spool."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recado.errors import RecadoError, SpoolFailed
from recado.kafka.delivery import Delivery, Fate

__all__ = ["Keeping"]


class Keeping:
    """These records of a delivery are to be written down; ``on_end`` is called once that has worked or failed.

    ``under_way``: they were given to Kafka already, and their reports are still to come. ``asked``: the sender wants
    no more than that they are safe here.
    ``on_end`` comes on the spool's thread and must neither block nor raise.
    """

    __slots__ = (
        "_claims",
        "_members",
        "asked",
        "delivery",
        "error",
        "indices",
        "is_forgotten",
        "is_kept",
        "on_end",
        "rows",
        "size_bytes",
        "under_way",
    )

    def __init__(
        self,
        delivery: Delivery,
        indices: Sequence[int],
        *,
        under_way: bool,
        asked: bool,
        size_bytes: int,
        on_end: Callable[[], None],
    ) -> None:
        self.delivery = delivery
        self.indices = indices
        self._members = indices if isinstance(indices, range) else frozenset(indices)
        self.under_way = under_way
        self.asked = asked
        #: About what they take on disk.
        self.size_bytes = size_bytes
        self.on_end = on_end
        self.is_kept = False
        #: The request was answered before these were on disk: nobody waits for their fates.
        self.is_forgotten = False
        # Taken by whoever comes first, the writer or one who gives up waiting: popping from a list is atomic.
        self._claims = [None]
        self.error: RecadoError | None = None
        #: Row numbers, one for each index, once they are on disk.
        self.rows: list[int] = []

    def holds(self, index: int, fate: Fate | None) -> bool:
        """Tell whether a record with this fate is safe on the disk: in Kafka or here, never in neither.

        A record that was given to Kafka before stays here until Kafka has it, whatever its report said.
        """
        if not self.is_kept or isinstance(fate, tuple | str):
            return False
        return index in self._members if self.under_way else fate is None

    def fail(self, error: RecadoError) -> None:
        """Nothing was written."""
        self.error = error
        self.on_end()

    def failure(self) -> RecadoError:
        """Why nothing was written: what the writer said, or that it said nothing in time."""
        return self.error or SpoolFailed("The disk of the spool does not answer, so nothing was accepted.")

    def claim(self) -> bool:
        """Take it up for writing; False if somebody gave up waiting for that."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True
