"""Where a setting's value comes from, what it may be, and what is said when it may not."""

from pathlib import Path
from typing import Any

import pytest

from recado.errors import ConfigurationError
from recado.settings import Settings, SettingsSource, description, environment_name, is_secret, is_topic_name, load

#: Every plain setting: a good text, the value that it means, and texts that are refused.
CASES: dict[str, tuple[str, Any, list[str]]] = {
    "bootstrap_servers": (
        "a:1, SSL://[::1]:9093,b",
        "a:1, SSL://[::1]:9093,b",
        ["", "a:0", "a:65536", "a b:1", "a,,b"],
    ),
    "host": ("0.0.0.0", "0.0.0.0", [""]),
    "port": ("8080", 8080, ["", "x", "-1", "65536", "1.5", "true"]),
    "topic": ("orders.v1", "orders.v1", ["", ".", "..", "a b", "é", "x" * 250]),
    "group": ("billing", "billing", ["", "  ", "a\nb"]),
    "data_dir": ("/tmp/here", Path("/tmp/here"), [""]),
    "wait_s": ("0.5", 0.5, ["0", "-1", "301", "nan", "inf", "5s"]),
    "spool": ("off", False, ["maybe", ""]),
    "dead_letters_api": ("on", True, ["maybe", ""]),
    "max_in_flight_bytes": ("5000", 5000, ["0", "-1", "1.5", "x"]),
    "drain_delay_s": ("2.5", 2.5, ["-1", "3601", "nan", "x"]),
    "spool_max_bytes": ("5000", 5000, ["0", "-1", "1.5", "x"]),
    "max_record_bytes": ("1000", 1000, ["0", "-1", "1000000001", "1MB"]),
    "max_body_bytes": ("1000", 1000, ["0", "many"]),
    "drain_s": ("30", 30.0, ["0", "3601", "soon"]),
    "worker_host": ("::1", "::1", [""]),
    "worker_port": ("0", 0, ["-1", "65536", "port"]),
    "kafka_version": ("3.9.1", "3.9.1", ["4", "3.9.0", ""]),
    "log_format": ("json", "json", ["xml", ""]),
    "log_level": ("debug", "debug", ["verbose", ""]),
}

PLAIN = [name for name in Settings.__struct_fields__ if not name.startswith("kafka") or name == "kafka_version"]


def loaded(
    folder: Path, file: str = "", environment: dict[str, str] | None = None, **command_line: object
) -> SettingsSource:
    if file:
        (folder / "recado.toml").write_text(file, "utf-8")
    return load(command_line=command_line, environment=environment or {}, directory=folder)


def refusal(folder: Path, file: str = "", environment: dict[str, str] | None = None, **command_line: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, file, environment, **command_line)
    return str(caught.value)


def test_without_any_setting_the_contracts_defaults_hold(tmp_path):
    source = loaded(tmp_path)
    assert source.settings == Settings()
    assert source.settings.bootstrap_servers == "localhost:9092"
    assert (source.settings.port, source.settings.wait_s, source.settings.drain_s) == (5000, 5, 20)
    assert {origin for _, _, origin in source.rows()} == {"default"}


def test_the_command_line_wins_over_the_environment_that_over_the_file_that_over_the_default(tmp_path):
    file = "port = 1\nhost = '1.1.1.1'\ntopic = 'from-file'"
    environment = {"RECADO_PORT": "2", "RECADO_HOST": "2.2.2.2"}
    source = loaded(tmp_path, file, environment, port="3")
    settings = source.settings
    assert (settings.port, settings.host, settings.topic, settings.group) == (
        3, "2.2.2.2", "from-file", "flask-consumer-group",
    )  # fmt: skip
    origins = {name: origin for name, _, origin in source.rows()}
    assert (origins["port"], origins["host"], origins["topic"], origins["group"]) == (
        "command line", "RECADO_HOST", "recado.toml", "default",
    )  # fmt: skip


def test_another_file_is_read_instead_of_the_one_in_the_folder(tmp_path):
    (tmp_path / "recado.toml").write_text("port = 1")
    other = tmp_path / "other.toml"
    other.write_text("host = '1.1.1.1'")
    settings = load(command_line={}, environment={}, directory=tmp_path, config=other).settings
    assert (settings.port, settings.host) == (5000, "1.1.1.1")


def test_a_named_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nope\.toml cannot be read"):
        load(command_line={}, environment={}, directory=tmp_path, config=tmp_path / "nope.toml")


@pytest.mark.parametrize("file", ["port = ", "= 1", "a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_named(tmp_path, file):
    assert "recado.toml is not valid TOML" in refusal(tmp_path, file)


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "recado.toml").write_bytes(b"host = '\xff'")
    assert "recado.toml is not valid TOML" in refusal(tmp_path)


def test_every_setting_has_a_case_here():
    assert sorted(CASES) == sorted(PLAIN)


@pytest.mark.parametrize("name", PLAIN)
def test_every_setting_can_come_from_the_environment(tmp_path, name):
    good, value, _ = CASES[name]
    source = loaded(tmp_path, environment={environment_name(name): good})
    assert getattr(source.settings, name) == value
    assert source.origins == {name: environment_name(name)}


@pytest.mark.parametrize("name", PLAIN)
def test_every_setting_can_come_from_the_command_line(tmp_path, name):
    good, value, _ = CASES[name]
    assert getattr(loaded(tmp_path, **{name: good}).settings, name) == value


@pytest.mark.parametrize(("name", "text"), [(name, bad) for name, case in CASES.items() for bad in case[2]])
def test_a_bad_value_is_refused_by_the_name_that_it_was_set_by(tmp_path, name, text):
    message = refusal(tmp_path, environment={environment_name(name): text})
    assert message.startswith(environment_name(name))
    assert "it must be" in message


@pytest.mark.parametrize(
    "line",
    ["port = true", "port = 'x'", "port = [1]", "host = 1", "wait_s = true", "spool = 2", "topic = {a = 1}",
     "data_dir = 1", "log_level = 'loud'"],
)  # fmt: skip
def test_a_bad_value_in_the_file_names_key_and_file(tmp_path, line):
    message = refusal(tmp_path, line)
    assert line.split()[0] in message
    assert "recado.toml" in message


@pytest.mark.parametrize("text", ["off", "OFF", "false", "no", "0"])
def test_off_has_several_words(tmp_path, text):
    assert loaded(tmp_path, environment={"RECADO_SPOOL": text}).settings.spool is False


@pytest.mark.parametrize(
    ("variable", "nearest"), [("RECADO_PROT", "RECADO_PORT"), ("RECADO_BOOTSTRAP_SERVER", "RECADO_BOOTSTRAP_SERVERS")]
)
def test_an_unknown_variable_is_an_error_that_names_the_nearest(tmp_path, variable, nearest):
    assert refusal(tmp_path, environment={variable: "1"}) == f"unknown setting {variable}. Did you mean {nearest}?"


def test_an_unknown_key_in_the_file_is_an_error_that_names_the_nearest(tmp_path):
    assert refusal(tmp_path, "tpoic = 'a'") == "recado.toml: unknown setting 'tpoic'. Did you mean topic?"


def test_where_nothing_is_near_the_way_to_the_list_is_told(tmp_path):
    assert "`recado settings` lists them all" in refusal(tmp_path, "zzzzzz = 1")


def test_other_variables_are_nobodys_business(tmp_path):
    assert loaded(tmp_path, environment={"PORT": "1", "recado_port": "x", "RECADOX": "1"}).settings == Settings()


def test_properties_of_librdkafka_pass_through_the_environment(tmp_path):
    environment = {
        "RECADO_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "RECADO_KAFKA_PRODUCER_COMPRESSION_TYPE": "zstd",
        "RECADO_KAFKA_CONSUMER_FETCH_MIN_BYTES": "10",
    }
    settings = loaded(tmp_path, environment=environment).settings
    assert settings.kafka == {"security.protocol": "SASL_SSL"}
    assert settings.kafka_producer == {"compression.type": "zstd"}
    assert settings.kafka_consumer == {"fetch.min.bytes": "10"}


def test_properties_of_librdkafka_pass_through_the_file_quoted_or_not(tmp_path):
    file = """
        [kafka]
        "security.protocol" = "SASL_SSL"
        socket.keepalive.enable = true
        socket.timeout.ms = 1000
        [kafka.producer]
        "linger.ms" = 5
        [kafka.consumer]
        fetch.min.bytes = 1
    """
    settings = loaded(tmp_path, file).settings
    assert settings.kafka == {
        "security.protocol": "SASL_SSL", "socket.keepalive.enable": "true", "socket.timeout.ms": "1000",
    }  # fmt: skip
    assert (settings.kafka_producer, settings.kafka_consumer) == ({"linger.ms": "5"}, {"fetch.min.bytes": "1"})


def test_the_environment_wins_over_the_file_for_one_property_and_leaves_the_others(tmp_path):
    file = '[kafka]\n"client.id" = "file"\n"security.protocol" = "SSL"'
    source = loaded(tmp_path, file, {"RECADO_KAFKA_CLIENT_ID": "environment"})
    assert source.settings.kafka == {"client.id": "environment", "security.protocol": "SSL"}
    assert source.origins == {"kafka.client.id": "RECADO_KAFKA_CLIENT_ID", "kafka.security.protocol": "recado.toml"}


def test_kafka_in_the_file_must_be_a_table(tmp_path):
    assert "must be a table" in refusal(tmp_path, "kafka = 1")


def test_the_version_of_the_embedded_kafka_is_no_property(tmp_path):
    settings = loaded(tmp_path, environment={"RECADO_KAFKA_VERSION": "3.9.1"}).settings
    assert (settings.kafka_version, settings.kafka) == ("3.9.1", {})


@pytest.mark.parametrize(
    "key",
    ["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem", "sasl.jaas.config", "SASL.PASSWORD",
     "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "sasl.oauthbearer.assertion.private.key.passphrase"],
)  # fmt: skip
def test_secrets_are_masked_wherever_they_stand(tmp_path, key):
    file = "\n".join(f"[{table}]\n{key!r} = 'hunter2'" for table in ("kafka", "kafka.producer", "kafka.consumer"))
    rows = loaded(tmp_path, file).rows()
    assert is_secret(key)
    assert "hunter2" not in str(rows)
    assert [value for name, value, _ in rows if key in name] == ["********"] * 3


@pytest.mark.parametrize("key", ["sasl.username", "security.protocol", "ssl.ca.location", "ssl.certificate.pem"])
def test_what_is_no_secret_is_shown(key):
    assert not is_secret(key)


def test_every_setting_and_property_has_a_description_and_a_variable():
    for name in PLAIN:
        assert description(name).endswith(".")
    assert "every client" in description("kafka.security.protocol")
    assert "producers only" in description("kafka.producer.linger.ms")
    assert "consumers only" in description("kafka.consumer.fetch.min.bytes")
    assert environment_name("wait_s") == "RECADO_WAIT_S"
    assert environment_name("kafka.producer.linger.ms") == "RECADO_KAFKA_PRODUCER_LINGER_MS"


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "legal"), [("a", True), ("A.b_c-1", True), ("x" * 249, True), ("x" * 250, False), ("", False),
                        (".", False), ("..", False), ("a/b", False), ("a\n", False), ("ñ", False)],
)  # fmt: skip
def test_topic_names_are_kafkas(name, legal):
    assert is_topic_name(name) is legal
