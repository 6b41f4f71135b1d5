"""One gateway in one process: its settings, its connection to Kafka, and the answers that need no body."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec

from recado.clock import Deadline
from recado.errors import RecadoError
from recado.gateway.answer import Answer
from recado.gateway.budget import Budget
from recado.gateway.envelope import invalid
from recado.gateway.fork import ForkHook
from recado.gateway.idempotency.once import Once
from recado.gateway.intake import Flush, Intake, Left, refusal
from recado.gateway.parse import parse_query
from recado.gateway.readiness import Trouble, expose, troubles
from recado.gateway.remembered import RememberedTopics
from recado.gateway.spool.folder import Folder, Owned
from recado.gateway.spool.spool import Spool
from recado.kafka.abstract import Clients, Link, Topics
from recado.kafka.clients import ClusterClients
from recado.outcomes.delay_service import DelayService
from recado.outcomes.delay_topics import DelayTopics
from recado.settings import Settings

__all__ = ["LEAST_REFRESH_S", "Connect", "Gateway", "MakeClients", "flush_answer"]

#: How a gateway comes to Kafka; tests pass the in-memory twin.
Connect = Callable[[Settings], Link]

#: How its delay line makes clients of its own, likewise.
MakeClients = Callable[[Settings], Clients]

#: Default and longest wait of ``POST /flush``, in seconds.
FLUSH_S = 30.0
MAX_FLUSH_S = 3600.0

#: A request that waits for nothing still gives an unknown topic so much time to be found, in seconds.
LEAST_REFRESH_S = 0.5

#: What the delay line may take to leave its group though no time is left, in seconds: others wait for its partitions.
LEAST_LEAVE_S = 2.0

#: Rest between two looks whether it has, in seconds: the deadline may come nearer meanwhile.
LEAVE_LOOK_S = 0.1

_JSON = [(b"content-type", b"application/json")]


class Gateway:
    """Shared by the Flask routes and the ASGI front. Thread-safe; connects on first use, anew after a fork."""

    def __init__(self, settings: Settings, *, connect: Connect, clients: MakeClients = ClusterClients) -> None:
        self.settings = settings
        self._connect = connect
        self.budget = Budget(settings.max_in_flight_bytes)
        self._clients = clients
        self._delays: DelayService | None = None
        self._lock = threading.Lock()
        self._intake: Intake | None = None
        self._owned: Owned | None = None
        #: Why it has no intake, where that was tried.
        self._cannot: RecadoError | None = None
        self._tell_no_more: Callable[[], None] = lambda: None
        #: What must not be sent twice.
        self.once = Once(settings.data_dir / "keys")
        # A producer's threads do not survive a fork: the child connects anew.
        self._fork_hook = ForkHook(self._forget)
        #: Set by a shutdown: ready turns false, so that a load balancer sends nothing new.
        self.draining = False

    @property
    def intake(self) -> Intake:
        """The intake of this process. Blocks on first use until Kafka has answered, or for 2 s."""
        return self._intake or self._connected()

    def _connected(self) -> Intake:
        with self._lock:
            if self._intake is None:
                self._tell_no_more()
                self._tell_no_more = expose(self.troubles)
                try:
                    self._intake, self._cannot = self._connect_now(), None
                except RecadoError as error:
                    self._cannot = error
                    raise
            return self._intake

    def _connect_now(self) -> Intake:
        if not self.settings.spool:
            link = self._connect(self.settings)
            return Intake(link, spool=None, delays=self._delaying(link.topics))
        directory = self.settings.data_dir / "spool"
        # The spool first: without it nothing may be promised.
        with ExitStack() as undo:  # where this fails, the next try shall find the spool free, and no client be left
            owned = Folder(directory).take()
            undo.callback(owned.release)
            undo.callback(owned.store.close)
            link = self._connect(self.settings)
            undo.callback(link.producer.close, 0)
            undo.callback(link.topics.close)
            spool = Spool(
                owned.store,
                max_bytes=self.settings.spool_max_bytes,
                producer=link.patient,
                is_reachable=lambda: link.topics.reachable,
            )
            undo.pop_all()
        self._owned = owned
        topics = RememberedTopics(link.topics, directory / "topics.json")
        return Intake(link._replace(topics=topics), spool=spool, delays=self._delaying(topics))

    def _delaying(self, topics: Topics) -> DelayTopics:
        service = DelayService(
            clients=self._clients(self.settings), catalog=topics, max_record_bytes=self.settings.max_record_bytes
        )
        service.start()
        self._delays = service
        return service.topics

    def _forget(self) -> object:
        self._lock = threading.Lock()
        # The parent's SQLite connection must not be closed here (its locks are the parent's), only its lock's copy.
        inherited = (self._intake, self._owned, self._delays)
        self._tell_no_more()
        self.once.leave()
        self.once = Once(self.settings.data_dir / "keys")
        self._intake = self._delays = None
        if self._owned is not None:
            self._owned.release()
            self._owned = None
        return inherited

    def troubles(self) -> list[Trouble]:
        """What is to be said of it now, be it ready or not (any thread). Does not connect, does not block."""
        servers = self.settings.bootstrap_servers
        return troubles(self._intake, self.once, draining=self.draining, cannot=self._cannot, servers=servers)

    def live(self) -> Answer:
        """The process answers: that is all that live means."""
        return Answer(200, _JSON, b'{"status":"live"}')

    def ready(self) -> Answer:
        """Whether requests should come here, and if not, why."""
        try:
            spool = self.intake.spool
        except RecadoError:
            spool = None
        troubles = self.troubles()
        refusing = any(trouble.refuses for trouble in troubles)
        reasons = [{"code": trouble.code, "detail": trouble.detail} for trouble in troubles]
        body: dict[str, Any] = {"status": "not ready" if refusing else "ready", "reasons": reasons}
        if spool is not None:
            depth = spool.depth()
            body["spool"] = {
                "records": depth.rows,
                "bytes": depth.size_bytes,
                "oldest_s": round(depth.oldest_s, 1),
                "refused": depth.refused,
            }
        return Answer(503 if refusing else 200, _JSON, msgspec.json.encode(body))

    def flush_timeout_s(self, query: str) -> float:
        """Read ``?timeout=``. Raises Problem."""
        text = parse_query(query, frozenset({"timeout"})).get("timeout")
        if text is None:
            return FLUSH_S
        try:
            timeout_s = float(text)
        except ValueError:
            raise invalid("timeout", f"{text[:60]!r} is not a number of seconds.") from None
        if not 0 <= timeout_s <= MAX_FLUSH_S:
            raise invalid("timeout", f"{text[:60]} must be 0 to {MAX_FLUSH_S:.0f} seconds.")
        return timeout_s

    def refresh_topics(self, wait_s: float) -> bool:
        """Ask Kafka for its topics, wait ``wait_s`` at most (a moment at least), tell whether it answered."""
        answers: list[bool] = []
        ask = self.intake.refresh
        asking = threading.Thread(target=lambda: answers.append(ask()), name="recado-refresh", daemon=True)
        asking.start()
        asking.join(wait_s or LEAST_REFRESH_S)
        return bool(answers and answers[0])

    def close(self, deadline: Deadline) -> Left:
        """Wait for what is outstanding; return what remains."""
        # Both end at the same time: the line only moves what Kafka has already, so neither waits for the other.
        if self._delays is not None:
            self._delays.stop()
        left = self._intake.close(deadline) if self._intake is not None else Left()
        if self._delays is not None:
            leaving = Deadline(LEAST_LEAVE_S)
            while not self._delays.join(LEAVE_LOOK_S) and (deadline.left_s() or leaving.left_s()):
                pass
        self._tell_no_more()
        self.once.close()
        if self._owned is not None:
            self._owned.release()
            self._owned = None
        self._fork_hook.end()
        return left


def flush_answer(watch: Flush) -> Answer:
    """What ``POST /flush`` says."""
    delivered, pending = watch.delivered(), watch.pending()
    refused = watch.refused()
    if refused and not pending:
        pending, detail = refused, refusal(refused)
    else:
        detail = f"{pending} records still wait for Kafka's confirmation."
    if not pending:
        return Answer(200, _JSON, msgspec.json.encode({"status": "flushed", "delivered": delivered, "pending": 0}))
    body = {
        "type": "about:blank",
        "title": "Not flushed in time",
        "status": 504,
        "code": "flush-timeout",
        "detail": detail,
        "delivered": delivered,
        "pending": pending,
    }
    return Answer(504, [(b"content-type", b"application/problem+json")], msgspec.json.encode(body))
