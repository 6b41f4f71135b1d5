"""Lists say what they could not count, and let no part of it pass for all."""

from __future__ import annotations

import pytest

from recado.kafka.admin import Admin, TopicSummary
from recado.kafka.groups import Group, GroupLag, Groups
from tests.command import recado

LEADERLESS = GroupLag("billing", "orders", 1, 2, None, None)
LAGS = {
    "billing": [GroupLag("billing", "orders", 0, 2, 0, 5), LEADERLESS],
    "shipping": [GroupLag("shipping", "orders", 0, 1, 0, 5), LEADERLESS._replace(group="shipping")],
    "whole": [GroupLag("whole", "orders", 0, 2, 0, 5)],
}


@pytest.fixture(autouse=True)
def _a_cluster_with_a_partition_that_nobody_leads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    topics = [TopicSummary("orders", 2, 1, 5, False, unseen=1), TopicSummary("other", 2, 1, 7, False)]
    monkeypatch.setattr(Admin, "topics", lambda self: topics)
    monkeypatch.setattr(Groups, "names", lambda self: list(LAGS))
    monkeypatch.setattr(Groups, "describe", lambda self, names: {name: Group(name, "empty", ()) for name in names})
    monkeypatch.setattr(Groups, "lags", lambda self, groups: {group.name: LAGS[group.name] for group in groups})


def test_groups_say_that_a_lag_is_not_all_of_it():
    ran = recado("groups")
    assert [line.split("\t")[-1] for line in ran.out.splitlines()[1:]] == ["at least 3", "at least 4", "3"]
    assert "1 partition has no leader now, or is gone: lag there cannot be counted" in ran.err
    assert [row["lag"] for row in recado("groups", "--json").json] == [None, None, 3]


def test_a_group_says_so_too():
    assert "1 partition has no leader now" in recado("groups", "billing").err
    found = recado("groups", "billing", "--json").json
    assert (found["lag"], [row["lag"] for row in found["partitions"]]) == (None, [3, None])
    assert "no leader" not in recado("groups", "whole").err


def test_topics_say_that_records_are_not_all():
    ran = recado("topics")
    assert [line.split("\t")[-1] for line in ran.out.splitlines()[1:]] == ["at least 5", "7"]
    assert "1 partition has no leader now, or is gone: records there cannot be counted" in ran.err
    assert [row["records"] for row in recado("topics", "--json").json] == [None, 7]
    assert "no leader" not in recado("topics", "other").err
