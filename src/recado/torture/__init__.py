"""Torture: faults under load, then everything that was answered is looked for in Kafka and judged.

Law: it sees recado's programs only from outside, as a user's machine would: it starts them through
``recado.supervisor`` and ``recado.embedded``, speaks HTTP to them, and reads Kafka with Kafka's own tools. It never
imports the gateway, the worker or what they are built from, so that no mistake of theirs can hide in the judge. The
plan and the judge are pure; it never prints and never reads the environment (callers pass both in).
"""

from recado.torture.judge import Judgement, judge
from recado.torture.plan import FAULTS, Fault, Plan, make_plan
from recado.torture.run import Report, Terms, Watch, run

__all__ = ["FAULTS", "Fault", "Judgement", "Plan", "Report", "Terms", "Watch", "judge", "make_plan", "run"]
