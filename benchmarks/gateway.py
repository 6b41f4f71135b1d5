"""The gateway against the tutorial's app and a bare ASGI function: ratios within one run, in turns."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from benchmarks import load, servers

#: How long one measurement lasts, in seconds, and how often each server has its turn.
SECONDS = 4.0
ROUNDS = 3

CONNECTIONS = (1, 64, 256)

#: NDJSON: records of 100 bytes in one request.
BATCH = 5000


def run(bootstrap: str, topic: str, other_python: str, *, rounds: int = ROUNDS, seconds: float = SECONDS) -> list[str]:
    """Measure and return the lines of a table."""
    body = b'{"message":"' + b"x" * 100 + b'","topic":"' + topic.encode() + b'"}'
    request = load.request_bytes("/send", body, {"Content-Type": "application/json"})
    lines = []
    with ExitStack() as stack:
        running = [
            stack.enter_context(servers.serving(*server))
            for server in (
                servers.recado(bootstrap, topic),
                servers.tutorial(bootstrap, other_python),
                servers.bare(bootstrap, "2"),
                servers.bare(bootstrap, "0"),
            )
        ]
        for connections in CONNECTIONS:
            lines += _compare(running, request, connections, rounds, seconds)
        lines.append(_bulk(running[0], topic, rounds, seconds))
        lines.append(f"recado, resident after load: {running[0].rss_mib():.0f} MiB")
    return lines


def _compare(
    running: list[servers.Running], request: bytes, connections: int, rounds: int, seconds: float
) -> list[str]:
    rows: dict[str, list[tuple[float, float, float, float]]] = {server.name: [] for server in running}
    for server in running:
        load.run(server.port, request, connections=connections, seconds=1)
    for _ in range(rounds):
        for server in running:
            before = server.cpu_s()
            result = load.run(server.port, request, connections=connections, seconds=seconds)
            if set(result.statuses) != {"200"}:
                raise RuntimeError(f"{server.name} answered {result.statuses}")
            cpu_ms = 1000 * (server.cpu_s() - before) / result.requests
            rows[server.name].append((result.rate, result.percentile_ms(0.5), result.percentile_ms(0.99), cpu_ms))
            print(f"  {connections:>3} connections, {server.name}: {result.rate:,.0f} req/s", flush=True)
    ours = rows["recado"]
    lines = []
    for name, theirs in rows.items():
        rate, p50, p99, cpu = (statistics.median(column) for column in zip(*theirs, strict=True))
        ratios = [statistics.median(a[i] / b[i] for a, b in zip(ours, theirs, strict=True)) for i in (0, 1, 3)]
        lines.append(
            f"{connections:>3} connections | {name:<22} | {rate:>8,.0f} req/s | p50 {p50:7.2f} p99 {p99:7.2f} ms | "
            f"CPU {cpu:.3f} ms/req | recado ÷ this: rate {ratios[0]:.2f}, p50 {ratios[1]:.2f}, CPU {ratios[2]:.2f}"
        )
    return lines


def _bulk(server: servers.Running, topic: str, rounds: int, seconds: float) -> str:
    line = b'{"message":"' + b"x" * 100 + b'","topic":"' + topic.encode() + b'"}\n'
    headers = {"Content-Type": "application/x-ndjson", "Prefer": "return=minimal"}
    request = load.request_bytes("/send", line * BATCH, headers)
    load.run(server.port, request, connections=4, seconds=1)
    rates = []
    for _ in range(rounds):
        result = load.run(server.port, request, connections=4, seconds=seconds)
        if set(result.statuses) != {"200"}:
            raise RuntimeError(f"NDJSON answered {result.statuses}")
        rates.append(result.rate * BATCH)
    return f"NDJSON, {BATCH} records of 100 bytes a request, 4 connections: {statistics.median(rates):,.0f} records/s"
