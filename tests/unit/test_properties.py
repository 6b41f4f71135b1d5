"""librdkafka's properties: what is unknown or wrong is named with where it was set and what it may have been."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka
import pytest

from recado.errors import ConfigurationError
from recado.kafka.properties import NAMES, check_properties
from recado.settings import load


def names_of_librdkafka(path: Path) -> list[str]:
    """The first column of the table that librdkafka itself prints."""
    library = next(Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka*"), None)
    if library is None:
        pytest.skip("this confluent_kafka brings no librdkafka of its own")
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.fopen(bytes(path), b"w"))
    ctypes.CDLL(str(library)).rd_kafka_conf_properties_show(stream)
    libc.fclose(stream)
    rows = [line.split("|")[0].strip() for line in path.read_text().splitlines() if line.count("|") >= 4]
    return sorted({name for name in rows if name and name == name.lower() and not name.startswith("-")} - {"property"})


def test_the_list_of_names_is_librdkafkas(tmp_path):
    found = [name for name in names_of_librdkafka(tmp_path / "names") if not name.endswith("_cb")]
    assert sorted(NAMES) == found, "write these into src/recado/kafka/properties.txt, one a line"


@pytest.mark.parametrize(
    ("environment", "toml", "told"),
    [
        ({"RECADO_KAFKA_SECURTY_PROTOCOL": "x"}, "", ["KAFKA_SECURTY_PROTOCOL", "RECADO_KAFKA_SECURITY_PROTOCOL?"]),
        ({"RECADO_KAFKA_SECURITY_PROTOCOL": "x"}, "", ["RECADO_KAFKA_SECURITY_PROTOCOL", "Invalid value"]),
        ({"RECADO_KAFKA_PRODUCER_LINGR_MS": "1"}, "", ["RECADO_KAFKA_PRODUCER_LINGER_MS"]),
        ({}, '[kafka.producr]\n"compression.type" = "zstd"', ["recado.toml", "[kafka.producer]"]),
        ({}, '[kafka]\n"securty.protocol" = "SSL"', ["recado.toml", "'securty.protocol'", "security.protocol?"]),
        ({}, '[kafka.consumer]\n"fetch.min.bytes" = -5', ["recado.toml", "outside allowed range"]),
        ({}, '[kafka]\nstats_cb = "x"', ["recado.toml", '"stats_cb"']),
    ],
)  # fmt: skip
def test_a_wrong_property_is_named_with_where_it_was_set(tmp_path, environment, toml, told):
    (tmp_path / "recado.toml").write_text(toml)
    source = load(command_line={}, environment=environment, directory=tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        check_properties(source)
    for words in told:
        assert words in str(caught.value)


def test_what_librdkafka_knows_passes(tmp_path):
    environment = {
        "RECADO_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "RECADO_KAFKA_SSL_CA_LOCATION": "/not/there",
        "RECADO_KAFKA_PRODUCER_ACKS": "1",
        "RECADO_KAFKA_CONSUMER_FETCH_MIN_BYTES": "1",
    }
    check_properties(load(command_line={}, environment=environment, directory=tmp_path))
