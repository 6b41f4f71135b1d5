"""Reading it all back, from Kafka alone: where one record is, and whether the books balance. Nothing here writes."""
