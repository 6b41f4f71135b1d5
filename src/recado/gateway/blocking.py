"""The way of a request's records for callers that may block: Flask's threads, and Python code without HTTP.

``asgi`` goes the same way on an event loop; one test suite runs against both.
"""

from __future__ import annotations

import threading
import time

from recado.gateway.answer import fates_of
from recado.gateway.gateway import Gateway
from recado.gateway.idempotency.rest import together, unsent
from recado.gateway.intake import Intake, delivery_of
from recado.gateway.reader import Submission
from recado.gateway.spool.keeping import Keeping
from recado.gateway.waits import KEEP_S, LEAVING_LOOKS, LEAVING_S, OVERDUE_S
from recado.kafka.delivery import Delivery

__all__ = ["give"]


def give(gateway: Gateway, submission: Submission) -> tuple[Delivery, Keeping | None]:
    """Admit a request's records and send them; return their fates, and which are safe in the spool.

    Blocks for the request's wait and one second more at most. Raises RecadoError where nothing was accepted.
    """
    intake = gateway.intake
    is_fresh = gateway.refresh_topics(submission.wait_s) if intake.must_ask(submission) else True
    intake.admit(submission, is_fresh=is_fresh)
    if submission.keys:
        return _once(gateway, submission), None
    return _send_now(intake, submission)


def _once(gateway: Gateway, submission: Submission) -> Delivery:
    """Send only what was not sent before, and remember what becomes of it before the answer."""
    taken, stored = threading.Event(), threading.Event()
    reservation = gateway.once.reserve(submission.keys, taken.set)
    taken.wait(KEEP_S)
    reservation.check()
    rest, known = unsent(submission, reservation.known), reservation.known
    try:
        fates = fates_of(*_send_now(gateway.intake, rest)) if rest is not None else []
    except BaseException:
        reservation.release()
        raise
    whole = together(submission, known, fates)
    reservation.store(whole, stored.set)
    stored.wait(KEEP_S)
    return whole


def _send_now(intake: Intake, submission: Submission) -> tuple[Delivery, Keeping | None]:
    return _queue(intake, submission) if intake.must_queue(submission) else _produce(intake, submission)


def _produce(intake: Intake, submission: Submission) -> tuple[Delivery, Keeping | None]:
    """Give the records to Kafka; those that it has not confirmed in time are written down before the answer."""
    confirmed, kept = threading.Event(), threading.Event()
    delivery = intake.open(submission, lambda delivery: confirmed.set())
    intake.send(delivery)
    if not confirmed.wait(min(submission.wait_s, OVERDUE_S)):
        intake.topics.suspect()
        confirmed.wait(max(0.0, submission.wait_s - OVERDUE_S))
    late = delivery.unconfirmed()
    if not late or intake.spool is None:
        return delivery, None
    keeping = intake.spool.keep(delivery, late, under_way=True, asked=False, on_end=kept.set)
    kept.wait(KEEP_S)
    intake.spool.withdraw(keeping)
    return delivery, keeping


def _queue(intake: Intake, submission: Submission) -> tuple[Delivery, Keeping | None]:
    """Write the records down; then wait for their turn, unless the sender or an outage says not to."""
    spool = intake.spool
    assert spool is not None
    for _ in range(LEAVING_LOOKS):
        is_free = intake.way_is_free(submission)
        if is_free:
            return _produce(intake, submission)
        if is_free is None:
            break
        time.sleep(LEAVING_S)
    confirmed, kept = threading.Event(), threading.Event()
    deadline = time.monotonic() + submission.wait_s
    delivery = delivery_of(submission, lambda delivery: confirmed.set())
    records = range(len(submission.records))
    keeping = spool.keep(delivery, records, under_way=False, asked=submission.is_async, on_end=kept.set)
    kept.wait(KEEP_S)
    if spool.withdraw(keeping):
        raise keeping.failure()
    if keeping.is_kept and intake.is_worth_waiting(submission):
        confirmed.wait(max(0.0, deadline - time.monotonic()))
    spool.forget(keeping)
    return delivery, keeping
