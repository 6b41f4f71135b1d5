"""Settling dead letters: redriving them to their group, or discarding them."""
