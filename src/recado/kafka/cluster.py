"""Connects to a real cluster: a producer and the catalog of its topics, which share one client."""

from __future__ import annotations

from functools import partial

from recado.kafka.abstract import Link, Outlet
from recado.kafka.clients import ClusterClients
from recado.kafka.config import patient_config, producer_config
from recado.kafka.producer import KafkaProducer
from recado.kafka.topics import ClusterTopics
from recado.kafka.transactor import KafkaTransactor
from recado.kafka.two_speed import TwoSpeedProducer
from recado.settings import Settings

__all__ = ["connect", "connect_outlet"]


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


def connect_outlet(settings: Settings) -> Outlet:
    """Start a patient producer and its topic catalog. Waits for no broker: the catalog fills by itself."""
    catalog: list[ClusterTopics] = []

    def on_unreachable() -> None:
        for topics in catalog:
            topics.report_unreachable()

    producer = KafkaProducer(patient_config(settings), on_unreachable=on_unreachable)
    topics = ClusterTopics(lambda: producer.client, on_silence=producer.suspect)
    catalog.append(topics)
    return Outlet(producer, topics, ClusterClients(settings), partial(KafkaTransactor, settings))
