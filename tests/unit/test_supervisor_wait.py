"""A supervised program that does one thing: waited for, not started again."""

import os
import sys
import threading

from recado.supervisor import Program, Supervisor


def supervised(code, lines):
    program = Program("once", [sys.executable, "-c", code], dict(os.environ))
    return Supervisor([program], on_line=lambda _, line: lines.append(line), drain_s=0.1)


def test_its_exit_code_and_its_last_line_are_there_and_nothing_runs_any_more():
    lines: list[str] = []
    running = supervised("print('done'); raise SystemExit(3)", lines)
    running.start()
    assert running.wait(30) == 3
    assert lines == ["done"]
    assert running.pids() == []
    assert running.wait(0) == 0


def test_one_that_still_runs_in_the_end_goes_on():
    running = supervised("import time; time.sleep(60)", [])
    running.start()
    try:
        assert running.wait(0.05) is None
        assert len(running.pids()) == 1
    finally:
        running.end(hurry=threading.Event())
