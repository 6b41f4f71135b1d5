"""Kafka's own command line tools by their known names, run on the same jars as the broker."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from recado.embedded import jars, wire
from recado.embedded.archive import Archive
from recado.embedded.config import log4j_1_config, log4j_2_config
from recado.embedded.java import find_java
from recado.embedded.launch import Runtime
from recado.embedded.progress import Progress, ProgressCallback, silent
from recado.errors import ConfigurationError, EmbeddedKafkaError, KafkaUnreachable

__all__ = ["TOOL_NAMES", "Tool", "find_tool", "run_tool", "with_server"]


#: How a user names brokers to ask. Both of Kafka's option parsers take abbreviations.
_BOOTSTRAP = ("--boot", "bootstrap.servers=", "bootstrap.controllers=")
_SERVERS = (*_BOOTSTRAP, "--broker-l")


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of one Kafka version. ``server_option`` is None for a tool that asks no broker."""

    main_class: str
    server_option: str | None = "--bootstrap-server"
    #: A tool with subcommands takes the option before them, except where each subcommand has its own.
    option_last: bool = False
    #: Arguments that start so name brokers, and then none are added.
    named_by: tuple[str, ...] = _SERVERS
    #: Moves many records, so the JVM's second compiler pays off.
    heavy: bool = False


_T = "org.apache.kafka.tools."

_BOTH = {
    "broker-api-versions": Tool(f"{_T}BrokerApiVersionsCommand"),
    "client-metrics": Tool(f"{_T}ClientMetricsCommand"),
    "cluster": Tool(f"{_T}ClusterTool", option_last=True),
    "configs": Tool("kafka.admin.ConfigCommand"),
    "console-consumer": Tool(f"{_T}consumer.ConsoleConsumer"),
    "consumer-groups": Tool(f"{_T}consumer.group.ConsumerGroupCommand"),
    "consumer-perf-test": Tool(f"{_T}ConsumerPerformance", heavy=True),
    "delegation-tokens": Tool(f"{_T}DelegationTokenCommand"),
    "delete-records": Tool(f"{_T}DeleteRecordsCommand"),
    "features": Tool(f"{_T}FeatureCommand"),
    "get-offsets": Tool(f"{_T}GetOffsetShell"),
    "leader-election": Tool(f"{_T}LeaderElectionCommand"),
    # Its ``--broker-list`` holds ids, as does that of ``reassign-partitions``.
    "log-dirs": Tool(f"{_T}LogDirsCommand", named_by=_BOOTSTRAP),
    "metadata-quorum": Tool(f"{_T}MetadataQuorumCommand"),
    "reassign-partitions": Tool(f"{_T}reassign.ReassignPartitionsCommand", named_by=_BOOTSTRAP),
    "storage": Tool("kafka.tools.StorageTool", server_option=None),
    "topics": Tool(f"{_T}TopicCommand"),
    "transactional-message-copier": Tool(f"{_T}TransactionalMessageCopier", "--broker-list", heavy=True),
    "transactions": Tool(f"{_T}TransactionsCommand"),
    "verifiable-consumer": Tool(f"{_T}VerifiableConsumer", heavy=True),
    "verifiable-producer": Tool(f"{_T}VerifiableProducer", heavy=True),
}

_KAFKA_4 = {
    "acls": Tool(f"{_T}AclCommand"),
    "console-producer": Tool(f"{_T}ConsoleProducer"),
    "console-share-consumer": Tool(f"{_T}consumer.ConsoleShareConsumer"),
    "dump-log": Tool(f"{_T}DumpLogSegments", server_option=None),
    "groups": Tool(f"{_T}GroupsCommand"),
    "producer-perf-test": Tool(f"{_T}ProducerPerformance", heavy=True),
    "share-consumer-perf-test": Tool(f"{_T}ShareConsumerPerformance", heavy=True),
    "share-groups": Tool(f"{_T}consumer.group.ShareGroupCommand"),
    "streams-groups": Tool(f"{_T}streams.StreamsGroupCommand"),
    "verifiable-share-consumer": Tool(f"{_T}VerifiableShareConsumer", heavy=True),
}

_KAFKA_3 = {
    "acls": Tool("kafka.admin.AclCommand"),
    "broker-api-versions": Tool("kafka.admin.BrokerApiVersionsCommand"),
    "console-producer": Tool("kafka.tools.ConsoleProducer"),
    "dump-log": Tool("kafka.tools.DumpLogSegments", server_option=None),
    # Takes its broker within ``--producer-props``.
    "producer-perf-test": Tool(f"{_T}ProducerPerformance", server_option=None, heavy=True),
}

#: Every name that some version has, in alphabetical order.
TOOL_NAMES = tuple(sorted({*_BOTH, *_KAFKA_4, *_KAFKA_3}))

_HELP = {"--help", "-h", "--version"}

#: Sent to us, meant for the tool.
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: What a shell reports for a program that a signal ended: this plus the signal's number.
_SIGNALLED = 128


def find_tool(name: str, version: str) -> Tool:
    """Return a tool of a Kafka version. Raises ConfigurationError when that version has none of this name."""
    table = {**_BOTH, **(_KAFKA_3 if version.startswith("3.") else _KAFKA_4)}
    if name not in table:
        raise ConfigurationError(f"Kafka {version} has no tool {name!r}; it has: {', '.join(sorted(table))}.")
    return table[name]


def with_server(tool: Tool, arguments: Sequence[str], bootstrap_servers: str) -> list[str]:
    """Return the arguments, with the configured brokers added where the tool wants them and the user named none."""
    if not _wants_server(tool, arguments) or tool.server_option is None:
        return list(arguments)
    option = [tool.server_option, bootstrap_servers]
    return [*arguments, *option] if tool.option_last else [*option, *arguments]


def _wants_server(tool: Tool, arguments: Sequence[str]) -> bool:
    named = any(argument.startswith(tool.named_by) for argument in arguments)
    return tool.server_option is not None and not named and not _HELP.intersection(arguments)


def run_tool(
    name: str,
    arguments: Sequence[str],
    *,
    version: str,
    bootstrap_servers: str,
    java_env: Mapping[str, str],
    cache_dir: Path | None = None,
    progress: ProgressCallback = silent,
) -> int:
    """Run one of Kafka's tools on our own standard input, output and error, and return its exit code.

    Blocks until the tool ends. Called in the main thread, signals to us go to the tool, whose end is then ours;
    128 + N stands for an end by signal N. Fetches the jars when they are missing. Raises ConfigurationError for
    an unknown tool, EmbeddedKafkaError when jars or Java cannot be had, and KafkaUnreachable when none of the
    configured brokers, had they been added, accepts a connection: the tool itself would try for a minute.
    """
    tool = find_tool(name, version)
    if _wants_server(tool, arguments) and not any(wire.listens(server) for server in bootstrap_servers.split(",")):
        raise KafkaUnreachable(
            f"No Kafka answers on {bootstrap_servers}. Start one with `recado kafka start`, set "
            "RECADO_BOOTSTRAP_SERVERS, or name one with --bootstrap-server."
        )
    folder = (cache_dir or jars.default_cache_dir(java_env)).absolute()
    java = find_java(java_env)
    class_path = jars.ensure(version, folder, progress=progress)
    runtime = Runtime(java, version, class_path, Archive(folder / version, java).path)
    log_config = _log_config(folder / version, log4j_1=runtime.logs_with_log4j_1)
    command = runtime.tool(
        tool.main_class, with_server(tool, arguments, bootstrap_servers), log_config, heavy=tool.heavy
    )
    progress(Progress("ready", name))
    try:
        with subprocess.Popen(command, env=dict(java_env)) as child, _forwarding(child):
            code = child.wait()
    except OSError as error:
        raise EmbeddedKafkaError(f"{java.path} cannot be run: {error.strerror}. Check JAVA_HOME.") from error
    return code if code >= 0 else _SIGNALLED - code


def _log_config(folder: Path, *, log4j_1: bool) -> Path:
    """Warnings only, to standard error: what a tool prints to standard output stays clean."""
    path = folder / "tools-log4j.properties"
    text = (log4j_1_config if log4j_1 else log4j_2_config)(level="WARN", stream="err", quiet=())
    try:
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    except OSError as error:
        raise EmbeddedKafkaError(f"{path} cannot be written: {error.strerror}.") from error
    return path


@contextmanager
def _forwarding(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand signals on to the child. Ctrl-C reaches it twice (it is in the terminal's group): the JVM minds only one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def forward(signum: int, _: FrameType | None) -> None:
        child.send_signal(signum)

    before = {signum: signal.signal(signum, forward) for signum in _FORWARDED}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
