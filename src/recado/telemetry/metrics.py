"""Every metric that recado exposes: its name, labels and meaning stand here and nowhere else."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from recado.telemetry.bounded import Bounded
from recado.telemetry.reading import Reading
from recado.telemetry.tally import Tally, Timing
from recado.telemetry.told import Told

__all__ = [
    "DEAD_LETTER_KINDS",
    "DELAY_ACCEPTED",
    "DELAY_HELD",
    "DELAY_HOPS",
    "DELAY_LANDED",
    "DELAY_LATENESS",
    "DELAY_REFUSED",
    "DELAY_UNREADABLE",
    "GATEWAY_IMPAIRED",
    "GATEWAY_IN_FLIGHT",
    "GATEWAY_NOT_READY",
    "GATEWAY_RECORDS",
    "GATEWAY_REQUESTS",
    "GATEWAY_SECONDS",
    "KAFKA_REACHABLE",
    "SPOOL_BYTES",
    "SPOOL_FORWARDED",
    "SPOOL_KEPT",
    "SPOOL_OLDEST",
    "SPOOL_RECORDS",
    "SPOOL_REFUSED",
    "WORKER_ASSIGNED",
    "WORKER_ATTEMPTS",
    "WORKER_COMMITS",
    "WORKER_DEAD_LETTERS",
    "WORKER_DONE_SECONDS",
    "WORKER_IN_FLIGHT",
    "WORKER_LAG",
    "WORKER_LAG_SECONDS",
    "WORKER_LATE",
    "WORKER_NOT_READY",
    "WORKER_OLDEST",
    "WORKER_PAUSED",
    "WORKER_RECORDS",
    "WORKER_SECONDS",
    "WORKER_SENT",
    "WORKER_STOPPED",
    "WORKER_TO_DONE",
    "WORKER_TRANSACTIONS",
]

#: From half a millisecond (one connection, idle broker) to beyond the longest default wait.
SECONDS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

GATEWAY_REQUESTS = Tally("recado_gateway_requests_total", "HTTP requests answered.", ["route", "status"])
GATEWAY_SECONDS = Timing(
    "recado_gateway_send_seconds",
    "From a complete request to its answer, for requests that send.",
    "topic",
    buckets=SECONDS_BUCKETS,
)
GATEWAY_RECORDS = Tally(
    "recado_gateway_records_total",
    "Records by fate: delivered, failed (Kafka refused it), unknown (no confirmation in time).",
    ["topic", "fate"],
)
GATEWAY_IN_FLIGHT = Told("recado_gateway_in_flight_records", "Records given to Kafka and not yet confirmed.")
SPOOL_KEPT = Tally("recado_spool_kept_records_total", "Records written to the spool and synced.", [])
SPOOL_FORWARDED = Tally(
    "recado_spool_forwarded_records_total", "Records from the spool that Kafka confirmed.", ["topic"]
)
SPOOL_RECORDS = Told("recado_spool_records", "Records in the spool that Kafka does not have yet.")
SPOOL_BYTES = Told("recado_spool_bytes", "What those take on disk, about, in bytes.")
SPOOL_OLDEST = Told("recado_spool_oldest_seconds", "Age of the oldest of them.")
SPOOL_REFUSED = Told("recado_spool_refused_records", "Records that Kafka refused after they were accepted.")
KAFKA_REACHABLE = Told("recado_kafka_reachable", "1 while a broker answers, else 0.")
GATEWAY_NOT_READY = Reading("recado_gateway_not_ready", "1 for each reason why it takes no requests.", ["reason"])
GATEWAY_IMPAIRED = Reading(
    "recado_gateway_impaired", "1 for each trouble that it has while it takes requests.", ["reason"]
)

#: On time is some milliseconds; beyond a minute no gateway ran.
LATENESS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600)

DELAY_ACCEPTED = Tally("recado_delay_accepted_total", "Delayed records that Kafka has, by target.", ["topic"])
DELAY_LANDED = Tally("recado_delay_landed_total", "Delayed records confirmed in their target.", ["topic"])
DELAY_LATENESS = Timing(
    "recado_delay_lateness_seconds",
    "From when a delayed record was due to its confirmation in the target.",
    "topic",
    buckets=LATENESS_BUCKETS,
)
DELAY_HOPS = Tally("recado_delay_hops_total", "Delayed records that moved on to a delay topic.", ["topic"])
DELAY_REFUSED = Tally(
    "recado_delay_refused_total", "Times that a due record could not land; it is kept.", ["topic", "error"]
)
DELAY_UNREADABLE = Tally("recado_delay_unreadable_total", "Foreign records in a delay topic, passed over.", ["topic"])
DELAY_HELD = Told("recado_delay_held_records", "Delayed records in this process's memory.")

WORKER_RECORDS = Counter(
    "recado_worker_records_total",
    "Records by outcome: done, dead, retrying (it left for a retry topic), parked (it waits there behind its key), or "
    "stopped (its partition waits).",
    ["topic", "outcome"],
)
WORKER_ATTEMPTS = Counter("recado_worker_failed_attempts_total", "Attempts that failed.", ["topic", "error"])
WORKER_SECONDS = Histogram(
    "recado_worker_handler_seconds",
    "Time in the handler; records that one thread handles in one go count once, with their mean.",
    ["handler"],
    buckets=SECONDS_BUCKETS,
)
WORKER_SENT = Counter("recado_worker_sent_records_total", "Records sent by handlers that Kafka confirmed.", ["topic"])
WORKER_TRANSACTIONS = Counter("recado_worker_transactions_total", "By result: committed, aborted.", ["result"])
WORKER_LATE = Counter(
    "recado_worker_late_results_total",
    "Records that were done after their partition had been taken away: dropped, their next owner handles them.",
    ["topic"],
)
WORKER_IN_FLIGHT = Gauge("recado_worker_in_flight_records", "Records taken from Kafka and not yet done.")
WORKER_ASSIGNED = Gauge("recado_worker_assigned_partitions", "Partitions that this member holds.", ["topic"])
WORKER_STOPPED = Gauge("recado_worker_stopped_partitions", "Partitions that wait at a failed record.", ["topic"])
WORKER_PAUSED = Gauge(
    "recado_worker_paused_handlers", "1 while a handler pauses: nearly everything fails.", ["handler"]
)
WORKER_COMMITS = Counter("recado_worker_commits_total", "Offset commits by result: ok, failed.", ["result"])

#: From what a loop's turn takes to a day: retries with their waits are in it, and backlogs.
DONE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)

WORKER_DONE_SECONDS = Timing(
    "recado_worker_done_seconds",
    "From when a record was accepted (a delayed one: had landed) until it was done, retries and all.",
    "topic",
    buckets=DONE_BUCKETS,
)
WORKER_LAG = Reading(
    "recado_worker_lag_records", "Records of a held partition that are not done.", ["topic", "partition"]
)
WORKER_LAG_SECONDS = Reading(
    "recado_worker_lag_seconds",
    "How far a held partition is behind: the age of its newest done record or of its oldest not done one, whichever is "
    "younger; 0 where all are done.",
    ["topic", "partition"],
)
WORKER_OLDEST = Reading(
    "recado_worker_oldest_not_done_seconds",
    "Age of the oldest record of a held partition that is not done; 0 where all are.",
    ["topic", "partition"],
)
WORKER_TO_DONE = Reading(
    "recado_worker_seconds_to_done",
    "Until what is in this member's partitions now is done, at the pace of the last minute; +Inf while nothing is.",
    ["topic"],
)
WORKER_NOT_READY = Reading(
    "recado_worker_not_ready", "How many reasons of each kind there are why it is not ready.", ["reason"]
)

#: Kinds of dead letters that are counted by themselves, in each process: each is a time series. The rest is "other".
DEAD_LETTER_KINDS = Bounded(50)

WORKER_DEAD_LETTERS = Tally(
    "recado_worker_dead_letters_total",
    "Dead letters that Kafka has, by what failed and where.",
    ["topic", "fingerprint"],
)
