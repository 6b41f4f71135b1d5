"""Logs: what is told of an exception."""

from __future__ import annotations

import pytest
import structlog

from recado.telemetry import logs


class Untold(Exception):
    def __str__(self) -> str:
        raise self


def charge(card: str, error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("form", ["human", "json"])
@pytest.mark.parametrize("error", [ValueError("no such customer"), ValueError("x" * 100_000), Untold()])
def test_a_traceback_names_the_place_is_bounded_and_shows_no_values(form, error, capsys):
    logs.set_up(format=form, level="info")
    with pytest.raises(type(error)) as raised:
        charge("4111" + " 1111" * 3, error)
    structlog.get_logger("test").warning("attempt failed", topic="orders", exc_info=raised.value)
    told = capsys.readouterr().err
    assert "attempt failed" in told
    assert "orders" in told
    assert "test_logs.py" in told
    assert ", in charge" in told
    assert type(error).__name__ in told
    assert "4111 1111" not in told
    assert len(told) < 2 * logs.MAX_TRACEBACK
