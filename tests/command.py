"""Runs the command `recado` in this process as a shell would: arguments, stdin, environment in; output, code out."""

from __future__ import annotations

import json
import logging
import os
from typing import Any, NamedTuple

import click
import structlog
from click.testing import CliRunner

from recado.cli.main import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class _Main(click.Command):
    """Lets click's runner call the program's own entrance, which turns errors into exit codes."""

    def main(self, args=None, prog_name=None, **extra):  # type: ignore[override]
        main(list(args or ()))


def recado(*arguments: str, stdin: bytes | str | None = None, **environment: str) -> Ran:
    """Run ``recado ARGUMENTS``; no ``RECADO_*`` variable but those given is seen."""
    clean = {name: None for name in os.environ if name.startswith("RECADO_")}
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        result = CliRunner().invoke(_Main("recado"), arguments, input=stdin, env={**clean, **environment})
    finally:
        # The command's logs went to the runner's stderr, which is gone.
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        structlog.reset_defaults()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)
