"""The command `recado`: finds the command, turns errors into a line for a person and an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys

import click

from recado.errors import ConfigurationError, KafkaUnreachable, RecadoError

__all__ = ["main"]

#: Command → the module that holds it, loaded only when it is called: `recado --help` should not wait for Kafka.
COMMANDS = {
    "up": "Everything in one terminal: Kafka, topic, gateway, worker.",
    "gateway": "The gateway alone: HTTP in, Kafka out.",
    "worker": "A worker alone: Kafka in, your handler out.",
    "kafka": "The embedded Kafka, and Kafka's own tools.",
    "send": "Send one record, or one per line of standard input.",
    "tail": "Show records as they arrive.",
    "topics": "List topics with what they hold.",
    "groups": "List consumer groups with their lag.",
    "where": "Where one message is now.",
    "dead-letters": "What a group gave up, by kind and one by one.",
    "verify": "The ledger: does every record have an end?",
    "torture": "Faults under load, and a verdict: was anything lost?",
    "spool": "What waits on this machine for Kafka, and what it refused.",
    "settings": "Show every setting, its value and where it came from.",
    "doctor": "Check settings, Kafka, topics, group, disk, clock.",
}

#: Exit codes (contract): 0 fine, 1 a check failed, 2 usage or settings, 3 work left behind, 4 Kafka unreachable.
USAGE, UNREACHABLE = 2, 4


class Commands(click.Group):
    """Loads a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            nearest = difflib.get_close_matches(cmd_name, COMMANDS, n=1, cutoff=0.5)
            hint = f"Did you mean {nearest[0]}?" if nearest else "`recado --help` lists them."
            ctx.fail(f"There is no command {cmd_name!r}. {hint}")
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"recado.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="recado", message="recado %(version)s")
def recado() -> None:
    """A durable HTTP front door for Kafka, and a worker that never loses a message.

    Try it: `recado up` starts everything on this machine and says what to type next.

    Every setting can be an option, an environment variable (RECADO_PORT=5050) or a line in recado.toml;
    `recado settings` shows them all.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        code = recado.main(arguments, prog_name="recado", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except RecadoError as error:
        code = fail(error)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def fail(error: RecadoError) -> int:
    """Say what went wrong, for a person, and return the exit code."""
    click.echo(f"recado: {error}", err=True)
    if isinstance(error, KafkaUnreachable):
        return UNREACHABLE
    return USAGE if isinstance(error, ConfigurationError) else 1
