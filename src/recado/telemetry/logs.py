"""Logs: a fixed event first, then key=value; for a person on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TextIO

import structlog
from structlog.typing import ExcInfo

__all__ = ["set_up"]

#: How much is told of a traceback, in characters, a half from either end: an exception may quote a record.
MAX_TRACEBACK = 8_000


def set_up(*, format: str, level: str) -> None:  # noqa: A002  # the setting's own name
    """Send recado's and the standard library's logs to stderr in one form (``human``, ``json`` or ``auto``)."""
    human = format == "human" or (format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=28, sort_keys=False, exception_formatter=_write_traceback
        )
        if human
        else structlog.processors.JSONRenderer()
    )
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    if not human:
        last.insert(1, structlog.processors.ExceptionRenderer(_traceback))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.basicConfig(handlers=[handler], level=getattr(logging, level.upper()), force=True)


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    # structlog's own, by rich, takes a tenth of a second, which the worker's loop would spend on each failed attempt,
    # many seconds for a long message; and it shows local variables: what a handler was given, and what it knows.
    stream.write("\n" + _traceback(exc_info))


def _traceback(exc_info: ExcInfo) -> str:
    try:
        text = "".join(traceback.format_exception(*exc_info)).rstrip()
    except Exception:  # an exception that it was raised from cannot be told, perhaps
        text = "".join(traceback.format_tb(exc_info[2])) + exc_info[0].__name__
    left_out = len(text) - MAX_TRACEBACK
    if left_out <= 0:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n… {left_out} characters …\n{text[-half:]}"
