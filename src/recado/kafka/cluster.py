"""Connects to a real cluster: a producer and the catalog of its topics, which share one client."""

from __future__ import annotations

from recado.kafka.abstract import Link
from recado.kafka.config import patient_config, producer_config
from recado.kafka.producer import KafkaProducer
from recado.kafka.topics import ClusterTopics
from recado.kafka.two_speed import TwoSpeedProducer
from recado.settings import Settings

__all__ = ["connect"]


def connect(settings: Settings) -> Link:
    """Start a producer and its topic catalog. Waits for the first catalog, but for no broker that is away."""
    catalog: list[ClusterTopics] = []

    def on_unreachable() -> None:
        for topics in catalog:
            topics.report_unreachable()

    producer = TwoSpeedProducer(producer_config(settings), on_unreachable=on_unreachable)
    topics = ClusterTopics(lambda: producer.prompt.client, on_silence=producer.prompt.suspect)
    catalog.append(topics)
    topics.refresh()
    return Link(producer, topics, lambda: KafkaProducer(patient_config(settings), on_unreachable=on_unreachable))
