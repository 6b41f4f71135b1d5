"""`recado torture gateway` explains itself, and refuses what cannot be run before anything is started."""

import pytest

from recado.torture import FAULTS
from tests.command import recado


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_its_help_teaches_every_fault_and_shows_examples():
    ran = recado("torture", "gateway", "--help")
    assert ran.code == 0
    assert "Examples:" in ran.out
    for kind in FAULTS.values():
        assert kind.name in ran.out
        assert kind.says in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--minutes", "1", "--seconds", "9"], "--minutes and --seconds"),
        (["--faults", "kill-everything"], "kill-broker"),
        (["--faults", "roll-brokers"], "roll-brokers needs 3 brokers"),
        (["--brokers", "2"], "'1', '3'"),
        (["--seconds", "0"], "--seconds"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(arguments, words):
    ran = recado("torture", "gateway", *arguments)
    assert ran.code == 2
    assert words in ran.err
