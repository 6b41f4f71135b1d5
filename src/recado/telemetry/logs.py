"""Logs: a fixed event first, then key=value; for a person on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["set_up"]


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
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=28, sort_keys=False)
        if human
        else structlog.processors.JSONRenderer()
    )
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    if not human:
        last.insert(1, structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.basicConfig(handlers=[handler], level=getattr(logging, level.upper()), force=True)
