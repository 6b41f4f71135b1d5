"""Every command explains itself, and what is mistyped is named with what it may have been."""

import subprocess
import sys

import pytest

from recado.cli.main import COMMANDS
from tests.command import recado

EVERYDAY = ["send", "tail", "topics", "groups", "settings", "doctor"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(command):
    ran = recado(command, "--help")
    assert ran.code == 0
    assert "Usage: recado" in ran.out


@pytest.mark.parametrize("command", EVERYDAY)
def test_an_everyday_command_is_learned_from_its_help(command):
    text = recado(command, "--help").out
    assert "Examples:" in text
    assert f"  recado {command}" in text
    assert "--json" in text
    assert "--bootstrap-servers" in text


def test_the_list_of_commands_shows_each_with_a_line():
    text = recado("--help").out
    for command, line in COMMANDS.items():
        assert command in text
        assert line in text


@pytest.mark.parametrize("command", EVERYDAY)
def test_an_unknown_option_is_a_usage_error_that_names_the_nearest(command):
    ran = recado(command, "--jsn")
    assert ran.code == 2
    assert "--jsn" in ran.err
    assert "--json" in ran.err


@pytest.mark.parametrize("command", EVERYDAY)
def test_a_bad_value_of_a_setting_is_a_usage_error(command):
    topic = ["orders", "value"][: {"send": 2, "tail": 1}.get(command, 0)]
    ran = recado(command, *topic, "--log-level", "loud")
    assert ran.code == 2
    assert "log_level" in ran.err + ran.out
    assert "debug, info, warning or error" in ran.err + ran.out


@pytest.mark.parametrize("command", ["topics", "groups", "settings"])
def test_an_unknown_setting_in_the_environment_is_named_with_the_nearest(command):
    ran = recado(command, RECADO_PROT="1")
    assert ran.code == 2
    assert "Did you mean RECADO_PORT?" in ran.err


@pytest.mark.parametrize("arguments", [["topics"], ["groups"], ["groups", "g"], ["tail", "t"], ["send", "t", "v"]])
def test_without_kafka_the_exit_code_is_4_and_the_reason_is_told(arguments):
    ran = recado(*arguments, RECADO_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert ran.code == 4
    assert ran.out == ""
    assert "127.0.0.1:1" in ran.err
    assert "recado doctor" in ran.err


@pytest.mark.parametrize("command", ["topics", "groups"])
def test_a_property_that_librdkafka_does_not_know_is_a_settings_error(command):
    ran = recado(command, RECADO_KAFKA_SECURITY_PROTCOL="SSL")
    assert ran.code == 2
    assert "security.protcol" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_stay_on_their_lines_and_no_help_shows_a_backslash_b(command):
    text = recado(command, "--help").out
    assert "\\b" not in text
    assert "\b" not in text
    _, found, examples = text.partition("Examples:\n")
    lines = [line for line in examples.partition("\n\n")[0].splitlines() if "recado" in line]
    assert lines or not found
    assert all(line.count("recado ") == 1 or " | " in line for line in lines)


@pytest.mark.parametrize("arguments", [["send", "bad topic", "x"], ["tail", "bad topic"]])
def test_an_illegal_topic_name_is_told_as_such(arguments):
    ran = recado(*arguments, RECADO_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert ran.code == 2
    assert "illegal topic name 'bad topic'" in ran.err
    assert "--create" not in ran.err


@pytest.mark.parametrize("command", ["settings", "topics", "doctor"])
def test_a_property_that_librdkafka_does_not_know_is_named_with_its_variable_and_the_nearest(command):
    ran = recado(command, RECADO_KAFKA_SECURTY_PROTOCOL="x")
    assert ran.code == 2
    assert "RECADO_KAFKA_SECURTY_PROTOCOL" in ran.err + ran.out
    assert "Did you mean RECADO_KAFKA_SECURITY_PROTOCOL?" in ran.err + ran.out


@pytest.mark.parametrize("while_loading", ["recado.cli", "click", "recado.cli.main", "difflib"])
def test_ctrl_c_ends_a_command_without_a_traceback_while_it_still_loads(while_loading):
    program = f"""
import sys
from importlib.metadata import entry_points

class CtrlC:
    def find_spec(self, name, *_):
        if name == {while_loading!r}:
            raise KeyboardInterrupt

(command,) = entry_points(group="console_scripts", name="recado")
sys.modules.pop({while_loading!r}, None)
sys.meta_path.insert(0, CtrlC())
command.load()()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


def test_importing_recado_loads_hardly_anything():
    program = "import sys; had = set(sys.modules); import recado; print(*sorted(set(sys.modules) - had))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert {"typing", "enum", "re", "click", "flask"}.isdisjoint(ran.stdout.split()), ran.stdout
