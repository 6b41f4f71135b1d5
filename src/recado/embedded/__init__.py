"""A real Apache Kafka from Python packages alone: fetched, checked, run and stopped (POSIX only).

Law: besides the worker's supervisor, only this room starts processes. It never prints (callers pass a
``progress`` callback), never reads the environment (callers pass it as a mapping), listens on loopback only,
and imports no other room.
"""

from recado.embedded.broker import EmbeddedKafka
from recado.embedded.config import Security
from recado.embedded.pins import VERSIONS
from recado.embedded.progress import Progress, ProgressCallback
from recado.embedded.status import BrokerStatus, Status
from recado.embedded.tools import TOOL_NAMES, run_tool

__all__ = [
    "TOOL_NAMES",
    "VERSIONS",
    "BrokerStatus",
    "EmbeddedKafka",
    "Progress",
    "ProgressCallback",
    "Security",
    "Status",
    "run_tool",
]
