"""Torture of workers: faults under load, and a history of every call of every handler that is judged afterwards.

The law of ``recado.torture`` holds here, too: worker processes are started and killed from outside, Kafka's own
``VerifiableProducer`` feeds them, and Kafka's own tools say what was committed. The one thing that comes from inside is
the journal, a line at the beginning and one at the end of each call, written around the user's handler.
"""

from recado.torture.worker.faults import FAULTS
from recado.torture.worker.journal import Journal, Place
from recado.torture.worker.run import Report, Terms, run

__all__ = ["FAULTS", "Journal", "Place", "Report", "Terms", "run"]
