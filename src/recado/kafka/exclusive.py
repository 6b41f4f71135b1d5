"""Writing that only one program does at a time: whoever begins last goes on, the others are told so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from recado.errors import DeliveryFailed, KafkaUnreachable, RecadoError, TakenOver
from recado.kafka.abstract import Message
from recado.kafka.config import transactional_config
from recado.kafka.failures import client_failure
from recado.kafka.quiet import quiet_logger
from recado.kafka.repeats import Repeats
from recado.kafka.serve import serve, serve_all
from recado.record import Outgoing
from recado.settings import Settings

__all__ = ["Exclusive"]

#: How long one call to the transaction coordinator may take, in seconds, and all tries of one together.
CALL_S = 15.0
TRIES_S = 60.0

#: Rest before the next try, in seconds, and while the producer's queue is full.
AGAIN_S = 0.5
FULL_S = 0.05

_TAKEN_OVER = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


class Exclusive:
    """Writes batches, each in one transaction: all of it is there or nothing is. One thread only.

    What an earlier one of the same name had begun is finished or aborted when this is made, and it can write no more
    (https://kafka.apache.org/documentation/#producerconfigs_transactional.id).
    """

    def __init__(self, settings: Settings, name: str) -> None:
        try:
            self._client = Producer(transactional_config(settings, name), logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the producer's settings") from error
        self._repeats = Repeats()
        #: The topic of a record of this transaction that a broker may have taken for a repeat, and not written.
        self._doubted = ""
        self._repeat("beginning transactions", lambda: self._client.init_transactions(CALL_S))

    def write(self, records: Sequence[Outgoing]) -> None:
        """Write these, or nothing. Raises TakenOver, KafkaUnreachable or another RecadoError: then this is of no use.

        After KafkaUnreachable it is not known whether they are there; who makes a new one and reads learns it.
        """
        self._doubted = ""
        try:
            self._client.begin_transaction()
            for record in records:
                self._produce(record)
            serve_all(self._client, TRIES_S)  # what is reported must be known before it ends
        except KafkaException as error:
            raise self._failure(error, "writing") from error
        if self._doubted:
            raise self._withdrawn()
        self._repeat("committing", lambda: self._client.commit_transaction(CALL_S))

    def _produce(self, record: Outgoing) -> None:
        note: Callable[..., None] = self._note
        while True:
            try:
                self._client.produce(
                    record.topic, record.value, record.key, record.partition, note, headers=list(record.headers)
                )
                return
            except BufferError:
                if (fatal := serve(self._client, FULL_S)) is not None:
                    raise KafkaException(fatal) from None

    def _note(self, error: KafkaError | None, message: Message) -> None:
        """A delivery report. Of a failure the commit tells; it does not tell of what was written nowhere."""
        if error is None and self._repeats.has(message):
            self._doubted = message.topic()

    def _withdrawn(self) -> RecadoError:
        """Abort what is in doubt; no other try by another producer of this name: it would take over from who began."""
        detail = f"the broker took a record for topic {self._doubted} for a repeat of one that it may not have"
        try:
            self._client.abort_transaction(CALL_S)
        except KafkaException as error:
            return self._failure(error, f"aborting, as {detail}")
        return DeliveryFailed(f"{detail}, so nothing of the transaction was written. Ask for it again.")

    def _repeat(self, doing: str, act: Callable[[], None]) -> None:
        deadline = time.monotonic() + TRIES_S
        while True:
            try:
                act()
                return
            except KafkaException as error:
                failed: KafkaError = error.args[0]
                if not failed.retriable() or time.monotonic() > deadline:
                    raise self._failure(error, doing) from error
            time.sleep(AGAIN_S)

    def _failure(self, error: KafkaException, doing: str) -> RecadoError:
        failed: KafkaError = error.args[0]
        if failed.code() in _TAKEN_OVER:
            return TakenOver("another program settles dead letters of this group now, so this one has stopped.")
        if failed.txn_requires_abort():
            try:
                self._client.abort_transaction(CALL_S)
            except KafkaException as unknown:
                return KafkaUnreachable(f"{doing}: {unknown.args[0].str()}")
        return client_failure(error, doing)
