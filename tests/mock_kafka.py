"""The cluster that librdkafka mocks: for answers of brokers that no real one gives when it is asked to."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import cimpl

__all__ = ["MockKafka", "start_mock_kafka"]

#: In Kafka's protocol.
PRODUCE, DUPLICATE_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH = 0, 46, 47

#: Of librdkafka's kinds of client, one that produces.
RD_KAFKA_PRODUCER = 0

_Pointer = ctypes.c_void_p
_rdkafka = ctypes.CDLL(cimpl.__file__)  # what it is linked with is found through it
for _name, _result, _arguments in (
    ("rd_kafka_conf_new", _Pointer, []),
    ("rd_kafka_conf_set", ctypes.c_int, [_Pointer, ctypes.c_char_p, ctypes.c_char_p, _Pointer, ctypes.c_size_t]),
    ("rd_kafka_new", _Pointer, [ctypes.c_int, _Pointer, _Pointer, ctypes.c_size_t]),
    ("rd_kafka_destroy", None, [_Pointer]),
    ("rd_kafka_mock_cluster_new", _Pointer, [_Pointer, ctypes.c_int]),
    ("rd_kafka_mock_cluster_destroy", None, [_Pointer]),
    ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [_Pointer]),
    ("rd_kafka_mock_push_request_errors_array", None, [_Pointer, ctypes.c_int16, ctypes.c_size_t, _Pointer]),
    ("rd_kafka_test_fatal_error", ctypes.c_int, [_Pointer, ctypes.c_int, ctypes.c_char_p]),
):
    getattr(_rdkafka, _name).restype = _result
    getattr(_rdkafka, _name).argtypes = _arguments


class MockKafka:
    """One broker in this process. What it is told to refuse, it does not keep."""

    def __init__(self, cluster: int) -> None:
        self._cluster = cluster
        self.bootstrap_servers: str = _rdkafka.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    def call_a_repeat(self) -> None:
        """Answer the next batch as one that is there already, though it is not."""
        errors = (ctypes.c_int * 1)(DUPLICATE_SEQUENCE_NUMBER)
        _rdkafka.rd_kafka_mock_push_request_errors_array(self._cluster, PRODUCE, 1, errors)

    def break_down(self, client: Any) -> None:
        """Let a producer fail for good."""
        handle = _Pointer.from_address(id(client) + object.__basicsize__)  # where confluent_kafka keeps librdkafka's
        assert _rdkafka.rd_kafka_test_fatal_error(handle, INVALID_PRODUCER_EPOCH, b"for a test") == 0


@contextmanager
def start_mock_kafka() -> Iterator[MockKafka]:
    """Run one; topics are made when they are first asked for."""
    config = _rdkafka.rd_kafka_conf_new()
    _rdkafka.rd_kafka_conf_set(config, b"log_level", b"0", None, 0)
    client = _rdkafka.rd_kafka_new(RD_KAFKA_PRODUCER, config, None, 0)
    cluster = _rdkafka.rd_kafka_mock_cluster_new(client, 1)
    try:
        yield MockKafka(cluster)
    finally:
        _rdkafka.rd_kafka_mock_cluster_destroy(cluster)
        _rdkafka.rd_kafka_destroy(client)
