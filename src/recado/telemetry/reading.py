"""A gauge that is asked for its values when somebody reads it: so it costs nothing else, and no old value stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

__all__ = ["Reading", "Source"]

#: Tells label values, in the order of the labels, with their value now. Any thread asks; it must not block.
Source = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Reading(Collector):
    """A gauge with labels. Thread-safe. Where two sources tell of the same labels, the sum stands."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._about = (name, documentation, list(labels))
        self._lock = threading.Lock()
        #: Replaced as a whole, so that reading it needs no lock.
        self._sources: tuple[Source, ...] = ()
        registry.register(self)

    def tell(self, source: Source) -> Callable[[], None]:
        """Ask this source, too, from now on; returns how to stop that (idempotent)."""
        with self._lock:
            self._sources = (*self._sources, source)
        return lambda: self._forget(source)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give prometheus_client what the sources tell now."""
        name, documentation, labels = self._about
        found: dict[tuple[str, ...], float] = {}
        for source in self._sources:
            for values, value in source():
                found[values] = found.get(values, 0.0) + value
        family = GaugeMetricFamily(name, documentation, labels=labels)
        for values, value in found.items():
            family.add_metric(values, value)
        yield family

    def _forget(self, source: Source) -> None:
        with self._lock:
            self._sources = tuple(one for one in self._sources if one is not source)
