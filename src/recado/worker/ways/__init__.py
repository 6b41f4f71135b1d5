"""The ways by which a record leaves its partition, for another attempt, for good or as an output, and comes back."""
