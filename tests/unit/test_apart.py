"""Questions to a coordinator are asked in a process of their own, which may die of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from recado.errors import KafkaUnreachable, RecadoError
from recado.record import TopicPartition
from recado.settings import Settings
from recado.worker.reporting import apart
from recado.worker.reporting.apart import CoordinatorApart
from tests.programs import kill_zygote_of

ONE = TopicPartition("orders", 0)


class Said:
    """What the other process has instead of a coordinator."""

    def __init__(self, settings: Settings, group: str) -> None: ...

    def owned(self, member: str) -> Any:
        match member:
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "away":
                raise KafkaUnreachable("nobody answers")
            case "stranger":
                return None
        return {ONE}

    def ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 7)


@pytest.fixture
def asked(monkeypatch) -> Callable[[], CoordinatorApart]:
    monkeypatch.setattr(apart, "KafkaCoordinator", Said)
    coordinator = CoordinatorApart(Settings(), "group")
    yield coordinator
    coordinator.close()


def test_answers_and_errors_come_back(asked):
    assert asked.owned("me") == {ONE}
    assert asked.owned("stranger") is None
    assert asked.ends([ONE]) == {ONE: 7}
    with pytest.raises(KafkaUnreachable, match="nobody answers"):
        asked.owned("away")


def test_a_process_that_dies_of_a_question_is_followed_by_another(asked):
    with pytest.raises(RecadoError):
        asked.owned("crash")
    assert asked.owned("me") == {ONE}


def test_that_there_are_no_processes_any_more_is_no_answer_and_said_once(asked):
    asked.owned("me")
    kill_zygote_of(asked._lane._pid)
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(RecadoError):
                asked.owned("me")
    assert [line["event"] for line in lines] == ["kafka cannot be asked what it says of this group"]
