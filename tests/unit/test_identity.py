"""The topic's id beside a committed offset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recado.kafka.identity import stamped, unstamped


@given(st.from_regex(r"[A-Za-z0-9+/]{22}", fullmatch=True), st.text())
def test_what_was_stored_beside_an_offset_comes_back(topic_id, metadata):
    assert unstamped(stamped(topic_id, metadata)) == (topic_id, metadata)


@given(st.text().filter(lambda text: not text.startswith("topic=")))
def test_metadata_of_others_tells_no_id(metadata):
    assert unstamped(metadata) == ("", metadata)
    assert stamped("", metadata) == metadata
