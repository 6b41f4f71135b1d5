"""What a cluster answers to an admin client's questions, which it may not do at once, or not for every partition."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as Position

from recado.errors import KafkaUnreachable, NotAllowed, RecadoError
from recado.kafka.failures import client_failure
from recado.record import TopicPartition

__all__ = ["AGAIN_S", "TIMEOUT_S", "answered", "listed"]

#: Longest wait for the cluster's answer to one question, in seconds.
TIMEOUT_S = 10.0

#: Rest before a question is asked again, in seconds.
AGAIN_S = 0.05

#: How long a partition may be without a leader while another broker takes it over, in seconds.
ELECTION_S = 2.0

#: The offset where a time is asked for and all records are older; a lower one means that no leader was asked.
NO_OFFSET = -1

T = TypeVar("T")


def answered(future: Future[T], doing: str) -> T:
    """The answer to an admin request, while ``doing`` something named for a person. Raises RecadoError."""
    try:
        return future.result(TIMEOUT_S + 1)
    except KafkaException as error:
        raise client_failure(error, doing) from error
    except TimeoutError as error:
        raise KafkaUnreachable(f"{doing}: no answer in {TIMEOUT_S:.0f} s. `recado doctor` looks closer.") from error


def listed(
    ask: Callable[[Collection[TopicPartition]], Mapping[Position, Future[Any]]],
    partitions: Collection[TopicPartition],
    doing: str,
    *,
    counts: Callable[[], Mapping[str, int]],
    led_only: bool,
) -> dict[TopicPartition, Any]:
    """The offset that each partition answers; what does not exist is left out.

    One without a leader is asked again for ``ELECTION_S``, then that raises KafkaUnreachable: nobody may take it for an
    empty one. With ``led_only`` it is left out, too. Of both librdkafka may tell the same, so ``counts`` asks how many
    partitions each topic has.
    """
    found: dict[TopicPartition, Any] = {}
    left, deadline = partitions, time.monotonic() + ELECTION_S
    while left:
        told, silent = _sorted_out(ask(left), doing)
        found |= told
        if led_only:
            break
        denied = next((why for why in silent.values() if isinstance(why, NotAllowed)), None)
        if denied is not None:
            raise denied
        there = counts() if silent else {}
        left = [where for where in silent if where.partition < there.get(where.topic, 0)]
        if left and time.monotonic() > deadline:
            why = silent[left[0]]
            raise KafkaUnreachable(f"{why}. `recado doctor` looks closer.") from why
        if left:
            time.sleep(AGAIN_S)
    return found


def _sorted_out(
    asked: Mapping[Position, Future[Any]], doing: str
) -> tuple[dict[TopicPartition, Any], dict[TopicPartition, RecadoError]]:
    """What partitions answered, and why the others did not. Raises KafkaUnreachable."""
    found: dict[TopicPartition, Any] = {}
    silent: dict[TopicPartition, RecadoError] = {}
    for position, future in asked.items():
        where = TopicPartition(position.topic, position.partition)
        doing_here = f"{doing} {where.topic}/{where.partition}"
        try:
            result = answered(future, doing_here)
        except KafkaUnreachable:
            raise
        except RecadoError as error:
            silent[where] = error
            continue
        if result.offset < NO_OFFSET:
            silent[where] = RecadoError(f"{doing_here}: its leader does not answer")
        else:
            found[where] = result
    return found, silent
