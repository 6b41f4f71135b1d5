"""The same answer again: a request or a record that was sent before is answered as it was then, and not sent again.

Kept for 24 hours in one file per data folder, shared by every gateway process on it. Gateways on other machines do not
see it: records carry the sender's key as their id, so a worker's ``deduplicate`` closes that gap.
"""
