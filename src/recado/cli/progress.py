"""What a person sees while the embedded Kafka is fetched, started or stopped."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from recado.embedded import Progress

__all__ = ["STAGES", "TROUBLE", "KafkaProgress"]

#: A line for each stage that a person wants to know of; the others pass in silence.
STAGES = {
    "refused": "Refused: {detail}",
    "java": "Using {detail}",
    "format": "Formatting {detail}",
    "start": "Starting {detail}",
    "stop": "Stopping {detail}",
}

#: For a tool, whose output is the user's: only what is not as it should be, and the bar.
TROUBLE = {"refused": STAGES["refused"]}


class KafkaProgress:
    """The progress callback for a person: a line for each stage, and a bar with bytes while jars are fetched.

    ``with KafkaProgress() as report: kafka.start(report)``. It writes to ``console``, by default standard error;
    where that is no terminal the bar is one line at its end. ``sentences`` are templates by stage. Leaving the
    ``with`` ends a bar that an error interrupted. Calls must come one at a time, from any thread.
    """

    def __init__(self, console: Console | None = None, *, sentences: Mapping[str, str] = STAGES) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._sentences = sentences
        self._bar: Bar | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "fetch":
            self._fetch(progress)
            return
        self._end_bar()
        if progress.stage in self._sentences:
            text = self._sentences[progress.stage].format(detail=progress.detail)
            self._console.print(text, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_bar()

    def _fetch(self, progress: Progress) -> None:
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Bar(*columns, console=self._console)
            self._bar.add_task("", total=progress.size_total_bytes)
            self._bar.start()
        files = f"{progress.files_done} of {progress.files_total} files"
        text = f"Fetching {progress.detail}, {files}"
        self._bar.update(self._bar.task_ids[0], completed=progress.size_done_bytes, description=text)

    def _end_bar(self) -> None:
        """End the bar, so that what follows starts on a line of its own."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
