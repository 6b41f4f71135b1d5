"""A gauge without labels that has no value while nobody tells one: a process without that part shows none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

__all__ = ["Told"]


class Told(Collector):
    """A gauge that is asked for its value. Thread-safe.

    One of prometheus_client's own is 0 from the start, which is a lie of whoever has nothing to tell: a worker that is
    no gateway would say that it reaches no broker.
    """

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._about = (name, documentation)
        self._source: Callable[[], float] | None = None
        registry.register(self)

    def tell(self, source: Callable[[], float]) -> None:
        """Ask this source from now on, and no other. Any thread asks it; it must not block."""
        self._source = source

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give prometheus_client what the source tells now."""
        source = self._source
        yield GaugeMetricFamily(*self._about, value=None if source is None else source())
