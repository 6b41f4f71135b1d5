"""The lists of pinned jars."""

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.embedded.pins import VERSIONS, Pin, parse_pins, read_pins, render_pins
from recado.errors import ConfigurationError, EmbeddedKafkaError

SUM = "0" * 64
words = st.text("abcXYZ019._-", min_size=1, max_size=12)
pins = st.builds(
    Pin,
    group=words,
    artifact=words,
    version=words,
    classifier=words | st.just(""),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size_bytes=st.integers(1, 10**9),
)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_a_list_with_broker_tools_and_log_binding(version):
    listed = {pin.artifact: pin for pin in read_pins(version)}
    assert {"kafka_2.13", "kafka-tools", "kafka-clients", "kafka-metadata"} <= set(listed)
    assert all(listed[name].version == version for name in ("kafka_2.13", "kafka-tools"))
    assert {"log4j-slf4j-impl", "slf4j-reload4j"} & set(listed)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_list_is_as_the_tool_would_write_it(version):
    text = files("recado.embedded").joinpath("pins", f"{version}.txt").read_text("utf-8")
    comment = text.splitlines()[0].removeprefix("# ")
    assert render_pins(read_pins(version), comment=comment) == text


@given(st.lists(pins, unique_by=lambda pin: pin.filename))
def test_what_is_rendered_is_read_back(some):
    assert parse_pins(render_pins(some, comment="two\nlines"), source="x") == tuple(sorted(some))


@pytest.mark.parametrize(
    "line",
    [
        "a:b:1",
        f"a:b:1 {SUM}",
        f"a:b {SUM} 1",
        f"a:b:1 {SUM[1:]} 1",
        f"a:b:1 {SUM} 0",
        f"a:b:../1 {SUM} 1",
        f" a:b:1 {SUM} 1",
    ],
)
def test_a_damaged_line_is_refused_with_its_number(line):
    with pytest.raises(EmbeddedKafkaError, match=r"list\.txt, line 2"):
        parse_pins(f"# fine\n{line}\n", source="list.txt")


def test_two_jars_of_one_file_name_are_refused():
    with pytest.raises(EmbeddedKafkaError, match=r"b-1\.jar is there twice"):
        parse_pins(f"a:b:1 {SUM} 1\nc:b:1 {SUM} 1\n", source="x")


def test_a_classifier_is_part_of_the_file_name():
    (pin,) = parse_pins(f"a:b:1:linux {SUM} 7\n", source="x")
    assert (pin.filename, pin.coordinates, pin.size_bytes) == ("b-1-linux.jar", "a:b:1:linux", 7)


def test_a_version_without_a_list_names_those_that_have_one():
    with pytest.raises(ConfigurationError, match=r"4\.3\.1 or 3\.9\.1"):
        read_pins("4.4.0")
