"""Keeps accepted records on this machine's disk until Kafka has them: nothing answered 202 is ever lost.

A row is written and synced before the 202, and struck out only after Kafka's delivery report. Rows of one topic leave
in the order in which they came. This room knows nothing of HTTP.
"""
