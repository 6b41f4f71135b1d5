"""What a running worker tells whoever reads its metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from recado.telemetry.metrics import WORKER_LAG, WORKER_LAG_SECONDS, WORKER_NOT_READY, WORKER_OLDEST, WORKER_TO_DONE
from recado.worker.reporting.health import Reason
from recado.worker.reporting.progress import Behind, Progress
from recado.worker.reporting.readiness import CODES

__all__ = ["expose"]

Values = Iterator[tuple[tuple[str, ...], float]]


def expose(reasons: Callable[[], Sequence[Reason]], progress: Progress | None) -> Callable[[], None]:
    """Let the metrics tell of a worker from now on; returns how to end that.

    A share group's worker has no ``progress``: how far that is only its broker knows.
    """

    def not_ready() -> Values:
        counts = Counter(str(reason["code"]) for reason in reasons())
        for code in sorted({*CODES, *counts}):
            yield (code,), counts[code]

    ends = [WORKER_NOT_READY.tell(not_ready)]
    if progress is not None:
        ends += _expose_progress(progress)

    def end() -> None:
        for stop in ends:
            stop()

    return end


def _expose_progress(progress: Progress) -> list[Callable[[], None]]:
    def each(value: Callable[[Behind], float]) -> Callable[[], Values]:
        return lambda: (
            ((behind.where.topic, str(behind.where.partition)), value(behind)) for behind in progress.behind()
        )

    def to_done() -> Values:
        for topic, seconds in progress.to_done().items():
            yield (topic,), seconds

    return [
        WORKER_LAG.tell(each(lambda behind: behind.records)),
        WORKER_LAG_SECONDS.tell(each(lambda behind: behind.lag_s)),
        WORKER_OLDEST.tell(each(lambda behind: behind.oldest_s)),
        WORKER_TO_DONE.tell(to_done),
    ]
