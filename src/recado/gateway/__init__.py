"""HTTP → record: parse (pure) → intake (effects) → answer (pure), worn by a Flask blueprint and by an ASGI front.

Flask lives only here (and in ``console/``). ``parse`` and ``answer`` know no server; the two wrappers are thin, and
one test suite runs against both. This room never imports ``worker/``.
"""
