"""How `recado tail` reads its options and shows a record."""

import json
import time
from datetime import UTC, datetime

import click
import pytest

from recado.cli.printable import printable, shown
from recado.cli.record_line import as_line, as_object
from recado.cli.tail import moment_ms
from recado.kafka.memory import MemoryMessage
from recado.record import HEADER_ID, Outgoing
from tests.command import recado

NOW_S = 1_800_000_000.0


def message(value=b"hola", key=None, headers=(), timestamp_ms=1_800_000_000_123):
    record = Outgoing("orders", value, "id-1", key, [(HEADER_ID, b"id-1"), *headers], timestamp_ms=timestamp_ms)
    return MemoryMessage(record, 2, 7)


@pytest.mark.parametrize(("text", "ago_s"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("0s", 0)])
def test_a_span_is_so_long_ago(text, ago_s):
    assert moment_ms(text, NOW_S) == round((NOW_S - ago_s) * 1000)


@pytest.mark.parametrize(
    "text", ["2027-01-15T08:00:00Z", "2027-01-15T08:00Z", "2027-01-15T09:00+01:00", "20270115T08Z"]
)
def test_a_time_with_an_offset_is_that_instant(text):
    assert moment_ms(text, NOW_S) == datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp() * 1000


@pytest.fixture
def _far_east(monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_east")
def test_a_time_without_an_offset_is_this_machines():
    assert moment_ms("2027-01-15T08:00", NOW_S) == datetime(2027, 1, 14, 23, tzinfo=UTC).timestamp() * 1000


def test_a_span_beyond_the_epoch_begins_there():
    assert moment_ms("999999d", NOW_S) == 0


def test_a_span_that_is_too_large_is_called_so_by_the_name_of_its_option():
    for text in ("9999999999d", "9" * 5_000 + "d"):
        with pytest.raises(click.BadParameter, match="too large") as refused:
            moment_ms(text, 0, "--until")
        assert refused.value.param_hint == "--until"


@pytest.mark.parametrize("text", ["", "10", "10x", "-5m", "yesterday", "2027-13-01", "10 m", "9999999999d"])
def test_what_is_neither_is_refused_with_examples(text):
    with pytest.raises(click.BadParameter, match="10m"):
        moment_ms(text, NOW_S)


def test_two_beginnings_are_a_usage_error_that_names_both():
    ran = recado("tail", "orders", "--last", "3", "--from-beginning")
    assert ran.code == 2
    assert "--from-beginning and --last" in ran.err


def test_a_line_has_time_place_key_and_value():
    line = as_line(verbose=False, wide=True)
    assert line(message(key=b"k1")) == "2027-01-15T08:00:00.123Z  2:7  [k1] hola"
    assert line(message()) == "2027-01-15T08:00:00.123Z  2:7  hola"


def test_a_tombstone_and_an_empty_value_differ():
    line = as_line(verbose=False, wide=True)
    assert line(message(None)).endswith("  (null)")
    assert line(message(b"")).endswith("  ")


def test_headers_stand_below():
    text = as_line(verbose=True, wide=True)(message(headers=[("source", b"shop"), ("raw", b"\xff")]))
    assert text.splitlines()[1:] == ["    recado-id: id-1", "    source: shop", "    raw: base64:/w=="]


def test_control_characters_cannot_rule_the_terminal():
    text = as_line(verbose=True, wide=True)(message("a\x1b[2J\r\nb\x9b".encode(), b"\x07", [("n\n", b"\x1b")]))
    assert len(text.splitlines()) == 3  # the record, its id, the header
    assert not set(text) & {"\x1b", "\x07", "\r", "\x9b"}
    assert "a\\x1b[2J\\r\\nb\\x9b" in text


@pytest.mark.parametrize("value", [b"x" * 5000, "ñ".encode() * 3000, "漢".encode() * 3000, b"\xff" * 5000])
def test_a_long_value_is_cut_to_the_terminal(value, monkeypatch):
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", "80")
    line = click.unstyle(as_line(verbose=False, wide=False)(message(value)))
    assert cell_len(line) <= 80
    assert line.endswith("…")
    assert "base64" in line or value.decode()[0] in line


def test_in_a_pipe_nothing_is_cut():
    assert as_line(verbose=False, wide=True)(message(b"x" * 5000)).endswith("x" * 5000)


def test_json_has_everything():
    row = json.loads(as_object(message('{"ñ": 1}'.encode(), b"k", [("a", b"1"), ("a", b"2")])))
    assert row == {
        "topic": "orders",
        "partition": 2,
        "offset": 7,
        "timestamp": 1_800_000_000_123,
        "id": "id-1",
        "key": "k",
        "value": '{"ñ": 1}',
        "headers": [
            {"name": HEADER_ID, "value": "id-1"},
            {"name": "a", "value": "1"},
            {"name": "a", "value": "2"},
        ],
    }


def test_json_keeps_bytes_that_are_no_text():
    row = json.loads(as_object(message(b"\xff\x00", b"\xfe")))
    assert (row["value_base64"], row["key_base64"]) == ("/wA=", "/g==")
    assert "value" not in row
    assert json.loads(as_object(message(None)))["value"] is None


@pytest.mark.parametrize(("text", "safe"), [("ñ 漢", "ñ 漢"), ("a\tb", "a\\tb"), ("\u202e", "\\u202e"), ("", "")])
def test_printable(text, safe):
    assert printable(text) == safe


def test_bytes_are_shown_as_text_or_as_what_they_are():
    assert shown("día".encode()) == "día"
    assert shown(b"\xc3") == "base64:ww=="
