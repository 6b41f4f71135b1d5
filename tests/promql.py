"""Reads PromQL as far as it takes to know what a query asks for: each metric, and the labels that it is asked by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.programs import ROOT

DASHBOARD = ROOT / "deploy/grafana/recado.json"
RULES = ROOT / "deploy/prometheus/recado.rules.yml"

_TOKEN = re.compile(
    r"""\s+
    |(?P<string>"(?:\\.|[^"\\])*")
    |(?P<duration>\[\s*(?:\d+(?:ms|[smhdwy]))+\s*(?::\s*(?:\d+(?:ms|[smhdwy]))*\s*)?\])
    |(?P<number>\d+(?:\.\d+)?(?:ms|[smhdwy])?)
    |(?P<name>[A-Za-z_:][\w:]*)
    |(?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>])""",
    re.VERBOSE,
)

#: After these comes a list of labels in parentheses.
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset"}


class Asked(NamedTuple):
    """One metric of a query, with the labels that it is chosen by."""

    metric: str
    labels: frozenset[str]


class Parsed(NamedTuple):
    """What a query asks for, and the labels that its results are grouped by."""

    asked: list[Asked]
    grouped_by: set[str]


def parse(query: str) -> Parsed:
    """Raises AssertionError for what is no PromQL, as far as this sees."""
    tokens = list(_tokens(query))
    asked: list[Asked] = []
    grouped_by: set[str] = set()
    at, depth = 0, 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if text in "()":
            depth += 1 if text == "(" else -1
            assert depth >= 0, f"too many ) in {query}"
        elif kind == "name" and text in _GROUPING:
            labels, at = _labels(tokens, at, query)
            grouped_by |= labels
        elif kind == "name" and text not in _WORDS and following not in ("(", "by", "without"):
            matched: set[str] = set()
            if following == "{":
                matched, at = _matchers(tokens, at + 1, query)
            asked.append(Asked(text, frozenset(matched)))
        else:
            assert text not in ("{", "}"), f"a lost {text} in {query}"
    assert depth == 0, f"too few ) in {query}"
    return Parsed(asked, grouped_by)


def dashboard_queries() -> dict[str, str]:
    """Each query of the dashboard by its panel, with what Grafana would put in for its variables."""
    found: dict[str, str] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "1m")
            found[f"{panel['title']} {target['refId']} ({panel['id']})"] = re.sub(r"\$\w+", ".*", query)
    return found


def rules() -> dict[str, str]:
    """Each alert's query."""
    found: dict[str, str] = {}
    for block in re.split(r"^\s*- alert: ", RULES.read_text(), flags=re.MULTILINE)[1:]:
        name = block.split("\n", 1)[0]
        expr = re.search(r"^        expr: (>-\n((?:          .*\n)+)|.*\n)", block, re.MULTILINE)
        assert expr, name
        found[name] = " ".join((expr[2] or expr[1]).split())
    return found


def _tokens(query: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(query):
        found = _TOKEN.match(query, at)
        assert found, f"cannot read {query[at:][:20]!r} in {query}"
        at = found.end()
        if found.lastgroup is not None:
            yield found.lastgroup, found[0]


def _labels(tokens: list[tuple[str, str]], at: int, query: str) -> tuple[set[str], int]:
    assert tokens[at][1] == "(", f"a list of labels is missing in {query}"
    end = next(place for place in range(at, len(tokens)) if tokens[place][1] == ")")
    inside = tokens[at + 1 : end]
    assert all((kind == "name") == (number % 2 == 0) for number, (kind, _) in enumerate(inside)), query
    return {text for kind, text in inside if kind == "name"}, end + 1


def _matchers(tokens: list[tuple[str, str]], at: int, query: str) -> tuple[set[str], int]:
    found: set[str] = set()
    while tokens[at][1] != "}":
        (kind, name), (_, sign), (value, _) = tokens[at : at + 3]
        assert (kind, value) == ("name", "string"), query
        assert sign in ("=", "!=", "=~", "!~"), query
        found.add(name)
        at += 4 if tokens[at + 3][1] == "," else 3
    return found, at + 1
