"""Kafka's tools: names, and the brokers that are added to their arguments."""

import os

import pytest

from recado.embedded.tools import TOOL_NAMES, Tool, find_tool, run_tool, with_server
from recado.errors import ConfigurationError, KafkaUnreachable

TOPICS = Tool("x")
HERE = "localhost:9092"


def test_the_configured_brokers_are_added_when_none_were_named():
    assert with_server(TOPICS, ["--list"], HERE) == ["--bootstrap-server", HERE, "--list"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--list", "--bootstrap-server", "other:1"],
        ["--list", "--bootstrap-server=other:1"],
        ["--boot", "other:1", "--list"],
        ["--bootstrap-controller", "other:1", "describe"],
        ["--broker-list", "other:1"],
        ["--producer-props", "acks=all", "bootstrap.servers=other:1"],
        ["--help"],
        ["--version"],
    ],
)
def test_nothing_is_added_when_the_user_named_brokers_or_asked_for_help(arguments):
    assert with_server(TOPICS, arguments, HERE) == arguments


@pytest.mark.parametrize("name", ["reassign-partitions", "log-dirs"])
def test_a_list_of_broker_ids_names_no_broker_to_ask(name):
    arguments = ["--generate", "--broker-list", "1,2"]
    for version in ("4.3.1", "3.9.1"):
        tool = find_tool(name, version)
        assert with_server(tool, arguments, HERE) == ["--bootstrap-server", HERE, *arguments]
        assert with_server(tool, ["--bootstrap-server", "other:1"], HERE) == ["--bootstrap-server", "other:1"]


def test_a_tool_whose_subcommands_take_the_option_gets_it_last():
    assert with_server(find_tool("cluster", "4.3.1"), ["cluster-id"], HERE) == [
        "cluster-id",
        "--bootstrap-server",
        HERE,
    ]


def test_a_tool_that_asks_no_broker_gets_none():
    assert with_server(find_tool("dump-log", "4.3.1"), ["--files", "a"], HERE) == ["--files", "a"]


def test_the_older_producer_benchmark_takes_its_broker_elsewhere():
    assert with_server(find_tool("producer-perf-test", "3.9.1"), ["--topic", "t"], HERE) == ["--topic", "t"]


def test_share_groups_are_there_from_kafka_4_on():
    assert "share-groups" in TOOL_NAMES
    assert find_tool("share-groups", "4.3.1").main_class.endswith("ShareGroupCommand")
    with pytest.raises(ConfigurationError, match=r"Kafka 3\.9\.1 has no tool 'share-groups'"):
        find_tool("share-groups", "3.9.1")


def test_every_tool_that_the_seed_and_the_checks_need_is_there_in_both_versions():
    needed = (
        "topics consumer-groups console-consumer console-producer configs acls get-offsets delete-records "
        "dump-log verifiable-producer verifiable-consumer transactional-message-copier reassign-partitions features "
        "transactions producer-perf-test consumer-perf-test metadata-quorum leader-election"
    )
    for version in ("4.3.1", "3.9.1"):
        assert all(find_tool(name, version) for name in needed.split())


def test_a_tool_does_not_wait_a_minute_for_a_kafka_that_is_not_there():
    with pytest.raises(KafkaUnreachable, match="recado kafka start"):
        run_tool("topics", ["--list"], version="4.3.1", bootstrap_servers="127.0.0.1:1", java_env=os.environ)
