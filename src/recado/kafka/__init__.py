"""Record → Kafka and back: the only room (besides ``schemas/``) that may import ``confluent_kafka``.

Everything above speaks to the contracts in ``abstract.py``, which a real cluster and the in-memory twin
(``memory.py``) both keep; ``tests/contract`` runs one suite against both.
"""
