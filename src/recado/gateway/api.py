"""The gateway for Python users: a blueprint, an app, a server."""

from __future__ import annotations

from flask import Blueprint, Flask

from recado.gateway.gateway import Connect, Gateway, MakeClients
from recado.gateway.routes import make_app, make_blueprint
from recado.kafka.clients import ClusterClients
from recado.kafka.cluster import connect as connect_cluster
from recado.settings import Settings, from_process

__all__ = ["blueprint", "create_app"]


def blueprint(
    settings: Settings | None = None, *, connect: Connect = connect_cluster, clients: MakeClients = ClusterClients
) -> Blueprint:
    """Return recado's routes for your own Flask app: ``app.register_blueprint(recado.blueprint())``.

    Settings are read from the environment and ``recado.toml`` unless given. Kafka is connected to on first use,
    in each process by itself, so any WSGI server may fork. ``connect`` and ``clients`` are for tests: the in-memory
    twin.
    """
    return make_blueprint(_gateway(settings, connect, clients))


def create_app(
    settings: Settings | None = None, *, connect: Connect = connect_cluster, clients: MakeClients = ClusterClients
) -> Flask:
    """Return a Flask app with recado's routes and nothing else. See ``blueprint`` for the parameters."""
    return make_app(_gateway(settings, connect, clients))


def _gateway(settings: Settings | None, connect: Connect, clients: MakeClients) -> Gateway:
    return Gateway(settings if settings is not None else from_process().settings, connect=connect, clients=clients)
