"""The configuration files of a broker."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.embedded.config import Node, Security, log4j_1_config, log4j_2_config, render_properties, server_properties
from recado.embedded.storage import require_expressible
from recado.errors import ConfigurationError

FOLDER = Path("/data/broker-1")
ONE = (Node(1, 9092, 20001),)
THREE = tuple(Node(i, 9091 + i, 20000 + i) for i in (1, 2, 3))
SECURITY = Security(Path("/tls/chain.pem"), Path("/tls/key.pem"), Path("/tls/ca.pem"), {"alice": "secret"})


def java_reads(text: str) -> dict[str, str]:
    """What java.util.Properties makes of a file of unfolded lines."""

    def word(raw: str) -> str:
        units, i = [], 0
        while i < len(raw):
            if raw[i] != "\\":
                units.append(raw[i])
                i += 1
            elif raw[i + 1] == "u":
                units.append(chr(int(raw[i + 2 : i + 6], 16)))
                i += 6
            else:
                units.append({"n": "\n", "r": "\r", "t": "\t"}.get(raw[i + 1], raw[i + 1]))
                i += 2
        return "".join(units).encode("utf-16", "surrogatepass").decode("utf-16")

    def split(line: str) -> tuple[str, str]:
        key = re.match(r"(?:\\.|[^\\=: \t\f])*", line).group()
        return word(key), word(line[len(key) + 1 :].lstrip(" \t\f"))

    return dict(split(line) for line in text.split("\n") if line)


def test_one_broker_needs_one_of_everything():
    values = server_properties(ONE[0], ONE, host="localhost", folder=FOLDER)
    assert values["process.roles"] == "broker,controller"
    assert values["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:20001"
    assert values["advertised.listeners"] == "PLAINTEXT://localhost:9092"
    assert values["group.initial.rebalance.delay.ms"] == "0"
    assert values["auto.create.topics.enable"] == "false"
    assert int(values["message.max.bytes"]) == 1_310_720
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        assert values[f"{topic}.num.partitions"] == values[f"{topic}.replication.factor"] == "1"
    assert values["min.insync.replicas"] == values["transaction.state.log.min.isr"] == "1"


def test_three_brokers_keep_three_copies_of_which_two_must_be_in_sync():
    values = server_properties(THREE[1], THREE, host="127.0.0.1", folder=FOLDER)
    assert values["node.id"] == "2"
    assert values["controller.quorum.voters"] == "1@127.0.0.1:20001,2@127.0.0.1:20002,3@127.0.0.1:20003"
    assert values["default.replication.factor"] == values["offsets.topic.replication.factor"] == "3"
    assert values["min.insync.replicas"] == values["transaction.state.log.min.isr"] == "2"


@pytest.mark.parametrize("security", [None, SECURITY])
@pytest.mark.parametrize("nodes", [ONE, THREE])
def test_every_listener_is_on_loopback(nodes, security):
    values = server_properties(nodes[0], nodes, host="localhost", folder=FOLDER, security=security)
    assert all("://127.0.0.1:" in listener for listener in values["listeners"].split(","))


def test_a_secured_broker_demands_sasl_ssl_of_clients_only():
    node = Node(1, 9092, 20001, 20002)
    values = server_properties(node, (node,), host="localhost", folder=FOLDER, security=SECURITY)
    assert values["listeners"].startswith("SASL_SSL://127.0.0.1:9092,INTERNAL://127.0.0.1:20002,")
    assert values["inter.broker.listener.name"] == "INTERNAL"
    assert values["sasl.enabled.mechanisms"] == "SCRAM-SHA-512"
    assert "secret" not in str(values)


def test_given_properties_win():
    values = server_properties(ONE[0], ONE, host="localhost", folder=FOLDER, properties={"min.insync.replicas": "7"})
    assert values["min.insync.replicas"] == "7"


@given(st.dictionaries(st.text("ab.: =#!\\", min_size=1), st.text(st.characters(exclude_categories=["Cs"]))))
def test_java_reads_the_properties_that_were_written(values):
    text = render_properties(values)
    assert text.isascii()
    assert java_reads(text) == values


def test_both_kinds_of_log_configuration_write_to_the_stream_that_was_asked_for():
    assert "appender.out.target=SYSTEM_ERR" in log4j_2_config(level="WARN", stream="err")
    assert "log4j.appender.out.target=System.err" in log4j_1_config(level="WARN", stream="err")


@pytest.mark.parametrize("password", ["", "a b", "a,b", "a=b", "a]", 'a"', "a\\"])
def test_a_password_that_the_format_tool_cannot_take_is_refused_unseen(password):
    security = Security(Path("a"), Path("b"), Path("c"), {"alice": password})
    with pytest.raises(ConfigurationError, match="'alice'") as caught:
        require_expressible(security)
    assert not password or password not in str(caught.value).replace("\\.", "").split("must")[0]
