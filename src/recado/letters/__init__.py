"""The dead letters of a group: list them, redrive them to their group, or discard them.

Law: whoever settles letters holds the desk, one program at a time; what comes back and the note that it has are one
transaction. No filter runs code.
"""

from __future__ import annotations

from recado.letters.desk import Desk
from recado.letters.filter import Filter
from recado.letters.listing import Listing, listing
from recado.letters.redrive import Redrive

__all__ = ["Desk", "Filter", "Listing", "Redrive", "listing"]
