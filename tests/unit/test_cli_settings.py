"""`recado settings`: each with value, origin, variable and description, and no secret."""

import pytest

from recado.settings import Settings
from tests.command import recado


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def by_name(ran):
    return {row["setting"]: row for row in ran.json}


def test_json_holds_every_setting_with_all_that_is_known_of_it():
    ran = recado("settings", "--json", RECADO_PORT="5050")
    rows = by_name(ran)
    assert ran.code == 0
    assert set(rows) == set(Settings.__struct_fields__) - {"kafka", "kafka_producer", "kafka_consumer"}
    assert rows["port"] == {
        "setting": "port",
        "value": "5050",
        "origin": "RECADO_PORT",
        "environment": "RECADO_PORT",
        "description": "Port the gateway listens on.",
    }
    assert rows["spool"]["value"] == "on"


def test_each_origin_is_told(tmp_path):
    (tmp_path / "recado.toml").write_text("topic = 'orders'")
    rows = by_name(recado("settings", "--json", "--log-level", "debug", RECADO_HOST="0.0.0.0"))
    assert {name: rows[name]["origin"] for name in ("log_level", "host", "topic", "group")} == {
        "log_level": "command line",
        "host": "RECADO_HOST",
        "topic": "recado.toml",
        "group": "default",
    }


def test_another_file_can_be_named(tmp_path):
    (tmp_path / "other.toml").write_text("port = 1234")
    assert by_name(recado("settings", "--json", "--config", "other.toml"))["port"]["value"] == "1234"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_secrets_are_masked_and_other_properties_shown(form):
    ran = recado("settings", *form, RECADO_KAFKA_SASL_PASSWORD="hunter2", RECADO_KAFKA_SASL_USERNAME="ana")
    assert ran.code == 0
    assert "hunter2" not in ran.out
    assert "********" in ran.out
    assert "ana" in ran.out
    assert "RECADO_KAFKA_SASL_PASSWORD" in ran.out


def test_in_a_pipe_there_is_a_tab_separated_line_for_each():
    lines = [line.split("\t") for line in recado("settings").out.splitlines()]
    assert lines[0] == ["setting", "value", "origin", "environment", "description"]
    assert {len(line) for line in lines} == {5}
    assert ["port", "5000", "default", "RECADO_PORT", "Port the gateway listens on."] in lines


def test_a_value_cannot_rule_the_terminal():
    out = recado("settings", RECADO_KAFKA_CLIENT_ID="a\x1b[31m\nb").out
    assert "a\\x1b[31m\\nb" in out
    assert "\x1b" not in out
