"""`recado gateway`, and what `python app.py` does."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
from flask import Flask

from recado.cli.loading import load_object
from recado.cli.main import fail
from recado.cli.options import current_settings, settings_options
from recado.errors import RecadoError
from recado.gateway import server
from recado.gateway.api import create_app
from recado.settings import Settings
from recado.telemetry import logs

__all__ = ["gateway", "serve"]


@click.command()
@click.argument("app", metavar="[MODULE:APP]", required=False)
@settings_options(host="Address to listen on.", port="Port to listen on.", topic="Topic of records that name none.",
                  wait_s="Longest wait for Kafka's confirmation, in seconds.")  # fmt: skip
def gateway(app: str | None) -> int:
    """Run the gateway: POST /send, POST /send/TOPIC, POST /flush.

    Without MODULE:APP it serves recado's own routes. With it, it serves your Flask app, which must have them:
    app.register_blueprint(recado.blueprint()).

    \b
    Examples:
      recado gateway
      recado gateway shop.web:app --port 8080
    """
    settings = current_settings(logging=True)
    return _run(create_app(settings) if app is None else load_object(app, Flask, "app"), settings)


def serve(app: Flask | Callable[[], Flask]) -> None:
    """Serve a Flask app that has recado's blueprint, until SIGTERM or Ctrl-C; then exit the process.

    Exit codes: 0 everything taken is in Kafka; 2 a setting is wrong, or the port is taken; 3 records remained
    unconfirmed (each was answered 504).
    """
    try:
        if not isinstance(app, Flask):
            app = app()
        settings = server.gateway_of(app).settings
        logs.set_up(format=settings.log_format, level=settings.log_level)
        code = _run(app, settings)
    except RecadoError as error:
        code = fail(error)
    sys.exit(code)


def _run(app: Flask, settings: Settings) -> int:
    def announce(url: str) -> None:
        click.echo(f"gateway listens at {url} (see {url}/docs), Kafka at {settings.bootstrap_servers}", err=True)

    return server.run(app, on_ready=announce)
