"""Connects to a real cluster: a producer and the catalog of its topics, which share one client."""

from __future__ import annotations

from threading import Event

from recado.kafka.abstract import Producer, Topics
from recado.kafka.config import producer_config
from recado.kafka.topics import ClusterTopics
from recado.kafka.two_speed import TwoSpeedProducer
from recado.settings import Settings

__all__ = ["connect"]


def connect(settings: Settings) -> tuple[Producer, Topics]:
    """Start a producer and its topic catalog. Waits for the first catalog, but for no broker that is away."""
    unreachable = Event()
    producer = TwoSpeedProducer(producer_config(settings), on_unreachable=unreachable.set)
    topics = ClusterTopics(producer.prompt.client, unreachable=unreachable)
    topics.refresh()
    return producer, topics
