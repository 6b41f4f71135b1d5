"""What is said of several worker processes."""

from __future__ import annotations

from recado.cli.members import client_id, shown
from recado.kafka.groups import Member
from recado.record import TopicPartition
from recado.settings import Settings


def member(client: str, *partitions: tuple[str, int]) -> Member:
    return Member("id", client, "host", tuple(TopicPartition(*p) for p in partitions))


def test_each_process_is_named_with_what_it_holds():
    names = {"recado-worker-1": "worker-1", "recado-worker-2": "worker-2", "recado-worker-3": "worker-3"}
    members = [
        member("recado-worker-2", ("b", 0), ("a", 5), ("a", 0), ("a", 1), ("a", 2)),
        member("recado-worker-1"),
        member("recado", ("a", 3)),
    ]
    assert shown(members, names) == (
        "worker-1: nothing · worker-2: a 0-2,5, b 0 · worker-3: not a member · 1 more elsewhere"
    )


def test_a_users_own_client_id_is_kept():
    assert client_id(Settings(), "worker-1") == "recado-worker-1"
    assert client_id(Settings(kafka={"client.id": "shop"}), "worker-1") == "shop-worker-1"
