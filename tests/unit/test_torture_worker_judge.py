"""The judge of a worker's torture: each sin is found, and what a crash explains is no sin."""

from __future__ import annotations

from datetime import datetime

from recado.outcomes.offset_map import encode
from recado.torture.worker.commits import Commit, decode_map, parse_commits
from recado.torture.worker.journal import Call, Journal, Life, Place, read_journals
from recado.torture.worker.judge import Evidence, judge
from recado.torture.worker.ledger import Ledger
from recado.torture.worker.rebalances import free_ns, read_rebalances

S = 1_000_000_000
#: The moment at which everything begins.
T0 = 1_700_000_000 * S


def call(
    life: Life, offset: int, began: float, ended: float | None, *, key: str = "aa", ok: bool = True, attempt: int = 1
) -> Call:
    ended_ns = None if ended is None else T0 + int(ended * S)
    return Call(life, Place("t", 0, offset, key, attempt), T0 + int(began * S), ended_ns, ok=ok)


def commit(offset: int, at: float, *done: tuple[int, int]) -> Commit:
    return Commit("t", 0, offset, done, (T0 + int(at * S)) // 1_000_000)


def verdict(
    calls: list[Call],
    commits: list[Commit],
    acked: int,
    *,
    dead=(),
    troubles=(),
    codes=(0,),
    rebalances=(),
    kept=(),
    ledger=None,
) -> dict[str, int]:
    evidence = Evidence(
        acked={("t", 0, offset) for offset in range(acked)},
        calls=sorted(calls, key=lambda one: one.began_ns),
        commits=commits,
        dead={("t", 0, offset): (T0 + int(at * S)) // 1_000_000 for offset, at in dead},
        troubles=[(T0 + int(a * S), T0 + int(b * S)) for a, b in troubles],
        ends={("t", 0): acked},
        codes=codes,
        rebalances=[(T0 + int(a * S), T0 + int(b * S)) for a, b in rebalances],
        kept=frozenset(kept),
        ledger=ledger,
    )
    return {check.name: check.broken for check in judge(evidence).checks if check.broken}


def test_an_innocent_run_is_acquitted():
    life = Life("worker-1-1")
    calls = [call(life, 0, 0, 1), call(life, 1, 1, 2, ok=False), call(life, 1, 3, 4), call(life, 2, 2, 3, key="bb")]
    assert verdict(calls, [commit(1, 1.5), commit(1, 3.5, (2, 2)), commit(4, 5)], 4, dead=[(3, 4.5)]) == {}


def test_a_record_that_nobody_did_is_lost():
    life = Life("worker-1-1")
    assert verdict([call(life, 0, 0, 1)], [commit(2, 1.5)], 2) == {"lost": 1, "committed past": 1}
    assert verdict([call(life, 0, 0, 1, ok=False)], [commit(0, 1)], 1)["lost"] == 1


def test_a_commit_before_the_end_of_a_call_is_found_in_the_offset_and_in_the_map():
    life = Life("worker-1-1")
    calls = [call(life, 0, 0, 2), call(life, 1, 0, 1, key="bb")]
    assert verdict(calls, [commit(1, 1.5), commit(2, 3)], 2) == {"committed past": 1}
    assert verdict(calls, [commit(0, 0.5, (1, 1)), commit(2, 3)], 2) == {"committed past": 1}


def test_two_records_of_a_key_at_once_and_in_the_wrong_order():
    one, two = Life("worker-1-1"), Life("worker-2-1")
    assert verdict([call(one, 0, 0, 2), call(two, 1, 1, 3)], [commit(2, 4)], 2) == {"at once": 1}
    assert verdict([call(one, 1, 0, 1), call(one, 0, 1, 2)], [commit(2, 4)], 2) == {"went back": 1}
    expelled = [call(one, 0, 0, 2), call(two, 1, 1, 3)]
    assert verdict(expelled, [commit(2, 4)], 2, troubles=[(0.5, 1.5)]) == {}
    assert verdict(expelled, [commit(2, 4)], 2, troubles=[(1.5, 2)]) == {"at once": 1}
    assert verdict([call(one, 0, 0, 2), call(one, 1, 1, 3)], [commit(2, 4)], 2, troubles=[(0, 2)]) == {"at once": 1}


def test_what_waits_in_a_retry_topic_may_be_committed_past_but_must_end():
    life = Life("worker-1-1")
    calls = [call(life, 0, 0, 1, ok=False), call(life, 1, 1, 2), call(life, 0, 9, 10, attempt=2)]
    assert verdict(calls, [commit(2, 4)], 2) == {}
    assert verdict(calls, [commit(2, 0.5)], 2) == {"committed past": 2}, "before it had left"
    assert verdict(calls[:2], [commit(2, 4)], 2) == {"committed past": 1, "lost": 1}
    soon = [*calls[:2], call(life, 0, 2.5, 3, attempt=2)]
    assert verdict(soon, [commit(2, 2.4)], 2) == {"committed past": 1}, "so short a delay passes in memory"


def test_what_left_twice_had_left_the_first_time_and_what_was_tried_in_memory_had_not():
    life = Life("worker-1-1")
    twice = [call(life, 0, 0, 1, ok=False), call(life, 0, 4, 5, ok=False), call(life, 0, 8, 9, attempt=2)]
    assert verdict(twice, [commit(1, 2)], 1) == {}
    tried = [
        call(life, 0, 0, 1, ok=False),
        call(life, 0, 1.2, 2.5, ok=False, attempt=2),
        call(life, 0, 5, 6, attempt=3),
    ]
    assert verdict(tried, [commit(1, 3)], 1) == {}
    assert verdict(tried, [commit(1, 2)], 1) == {"committed past": 1}


def test_what_came_back_by_a_retry_topic_may_come_twice_after_a_crash_and_only_then():
    one, two = Life("worker-1-1"), Life("worker-2-1")
    calls = [
        call(one, 0, 0, 1, ok=False),  # its copy is sent, its offset is not committed
        call(two, 0, 5, 6, ok=False),  # so that there is another copy
        call(two, 0, 7, 8, attempt=2),
        call(two, 0, 9, 10, attempt=2),
    ]
    assert verdict(calls, [commit(1, 12)], 1) == {"again": 1}, "without a crash"
    one.killed_ns = T0 + 2 * S
    assert verdict(calls, [commit(1, 12)], 1) == {}


def test_where_order_is_kept_no_record_overtakes_a_failed_one_of_its_key():
    life = Life("worker-1-1")
    calls = [call(life, 0, 0, 1, ok=False), call(life, 1, 2, 3), call(life, 0, 4, 5, attempt=2)]
    commits = [commit(2, 6)]
    assert verdict(calls, commits, 2) == {}
    assert verdict(calls, commits, 2, kept=["t"]) == {"overtaken": 1}
    other = [calls[0], call(life, 1, 2, 3, key="bb"), calls[2]]
    assert verdict(other, commits, 2, kept=["t"]) == {}
    behind = [calls[0], calls[2], call(life, 1, 5.1, 5.2)]
    assert verdict(behind, commits, 2, kept=["t"]) == {}
    assert verdict(behind, [commit(2, 4)], 2, kept=["t"]) == {}, "both were in the retry topic by then"
    assert verdict(behind, [commit(2, 4)], 2) == {"committed past": 1}
    assert verdict(behind[:2], [commit(2, 4)], 2, kept=["t"]) == {"lost": 1, "committed past": 1}


def test_what_was_parked_is_repeated_only_in_trouble():
    one, two = Life("worker-1-1"), Life("worker-2-1")
    calls = [
        call(one, 0, 0, 1, ok=False), call(one, 0, 4, 5, attempt=2), call(one, 1, 5.1, 5.2), call(two, 1, 9, 9.1),
    ]  # fmt: skip
    commits = [commit(2, 4)]
    assert verdict(calls, commits, 2, kept=["t"]) == {"again": 1}
    assert verdict(calls, commits, 2, kept=["t"], troubles=[(5, 8)]) == {}
    one.killed_ns = T0 + int(5.5 * S)
    assert verdict(calls, commits, 2, kept=["t"]) == {}


def test_of_a_process_that_was_stopped_nothing_else_can_be_asked():
    one, two = Life("worker-1-1"), Life("worker-2-1")
    one.frozen_ns.append((T0 + S, T0 + 9 * S))
    calls = [call(one, 0, 0, 10), call(two, 0, 8, 8.5), call(two, 1, 8.5, 9.5)]
    assert verdict(calls, [commit(2, 11)], 2) == {}


def test_what_was_done_is_repeated_only_after_a_crash_and_only_what_no_commit_covered():
    one, two = Life("worker-1-1"), Life("worker-1-2")
    calls = [call(one, 0, 0, 0.9), call(two, 0, 5, 6)]
    assert verdict(calls, [commit(1, 7)], 1) == {"again": 1}, "without a crash"
    one.killed_ns = T0 + S
    assert verdict(calls, [commit(1, 7)], 1) == {}
    assert verdict(calls, [commit(1, 0.95), commit(1, 7)], 1) == {"again": 1}, "a commit had covered it"
    one.killed_ns = T0 + 3 * S
    assert verdict(calls, [commit(1, 7)], 1) == {"again": 1}, "it should have been committed by then"
    assert verdict(calls, [commit(1, 7)], 1, rebalances=[(1.5, 4)]) == {}, "commits waited for a rebalance"
    assert verdict(calls, [commit(1, 7)], 1, rebalances=[(0, 1), (2.5, 4)]) == {"again": 1}, "between two of them"
    covered = [commit(1, 2.5), commit(1, 7)]
    assert verdict(calls, covered, 1, rebalances=[(1.5, 4)]) == {"again": 1}, "but it was covered"
    assert verdict(calls, [commit(1, 7)], 1, troubles=[(0.5, 5)]) == {}, "brokers were away"
    away = [(2.6, 8)]
    assert verdict(calls, [commit(1, 2.5), commit(1, 7)], 1, troubles=away) == {"again": 1}, "but it was covered"
    assert verdict(calls, [commit(1, 2.7), commit(1, 7)], 1, troubles=away) == {}, "by one that nobody may have had"


def test_rebalances_are_read_from_the_logs_of_the_coordinators(tmp_path):
    who = "INFO  [GroupCoordinator id=1 topic=__consumer_offsets partition=0]"
    lines = [
        f"2026-11-27T04:40:51,040 {who} Preparing to rebalance group g in state PreparingRebalance with old",
        f"2026-11-27T04:40:51,041 {who} Preparing to rebalance group other in state PreparingRebalance with old",
        "\tat a stack trace",
        f"2026-11-27T04:40:52,630 {who} Stabilized group g generation 5 with 3 members.",
        f"2026-11-27T04:40:53,040 {who} Assignment received from leader recado-1 for group g for generation 5. The",
        f"2026-11-27T04:40:58,000 {who} Preparing to rebalance group g in state PreparingRebalance with old",
        f"2026-11-27T04:40:59,000 {who} Group g with generation 6 is now empty.",
    ]
    for broker, sep in ((1, "T"), (2, " ")):  # the second as Kafka 3.9 writes it, and cut off in a rebalance
        folder = tmp_path / f"broker-{broker}"
        folder.mkdir()
        text = "\n".join(lines[: 8 - broker]).replace("27T", f"27{sep}")
        (folder / "server.log").write_text(text + "\n")
    lasted = [(end - begin) / S for begin, end in read_rebalances(tmp_path, "g")]
    assert lasted == [2.5, 2.5, 0.5, 1.5]
    begin = read_rebalances(tmp_path, "g")[0][0]
    assert begin // S == int(datetime(2026, 11, 27, 4, 40, 51).timestamp())


def test_time_outside_of_rebalances_is_added_up():
    assert free_ns(0, 10, []) == 10
    assert free_ns(0, 10, [(2, 4), (3, 5), (8, 20)]) == 5
    assert free_ns(5, 10, [(0, 4), (6, 7), (30, 40)]) == 4
    assert free_ns(5, 10, [(0, 40)]) == 0


def test_a_run_that_ends_before_all_is_committed_or_not_with_0_is_not_drained():
    life = Life("worker-1-1")
    assert verdict([call(life, 0, 0, 1)], [commit(0, 1.5)], 1) == {"not drained": 1}
    assert verdict([call(life, 0, 0, 1)], [commit(1, 1.5)], 1, codes=(0, 3)) == {"not drained": 1}


def test_the_ledger_must_balance_and_agree():
    life = Life("worker-1-1")
    calls, commits = [call(life, 0, 0, 1)], [commit(2, 3)]
    total = {"accepted": 2, "dead": 1, "retrying": 0, "not_handled": 0}
    dead = [(1, 2)]
    assert verdict(calls, commits, 2, dead=dead, ledger=Ledger(True, total)) == {}
    assert verdict(calls, commits, 2, dead=dead, ledger=Ledger(False, total)) == {"ledger": 1}
    assert verdict(calls, commits, 2, dead=dead, ledger=Ledger(True, {**total, "dead": 0, "retrying": 1})) == {
        "ledger": 2
    }


def test_nothing_at_all_proves_nothing():
    assert verdict([], [], 0)["put to the test"] == 1


def test_a_journal_is_read_back_and_a_last_line_that_was_cut_off_is_none(tmp_path):
    life, path = Life("worker-1-1"), tmp_path / "worker-1-1.journal"
    journal = Journal(path)
    first = journal.began([Place("t", 0, 7, "6b", 1), Place("t", 0, 8, "-", 2)])
    journal.ended(first, ok=True)
    journal.began([Place("t", 0, 9, "6b", 1)])
    with path.open("ab") as file:
        file.write(b"E 123")
    calls = read_journals([path], {"worker-1-1": life})
    assert [(c.place.offset, c.ok, c.ended_ns is None) for c in calls] == [
        (7, True, False), (8, True, False), (9, False, True),
    ]  # fmt: skip


def test_its_own_reading_of_an_offset_map_agrees_with_the_worker():
    for ranges in ([(3, 3)], [(11, 14), (20, 20)], [(n, n) for n in range(11, 400, 2)], [(11, 5000), (6000, 9000)]):
        text = encode(10 if ranges[0][0] > 10 else 0, ranges, 4).text
        base = 10 if ranges[0][0] > 10 else 0
        assert list(decode_map(base, f"topic=x;{text}")) == ranges
    assert decode_map(5, "topic=x;") == ()


def test_commits_are_read_from_what_kafkas_formatter_writes():
    text = (
        'words{"key":{"type":1,"data":{"group":"g","topic":"t","partition":2}},"value":{"version":4,"data":'
        '{"offset":12,"leaderEpoch":0,"metadata":"","commitTimestamp":17}}}{"key":{"type":1,"data":{"group":"other",'
        '"topic":"t","partition":2}},"value":{"version":4,"data":{"offset":1,"metadata":"","commitTimestamp":1}}}'
        '{"key":{"type":1,"data":{"group":"g","topic":"t","partition":2}},"value":null}Processed a total of 3 messages'
    )
    assert list(parse_commits(text, "g")) == [Commit("t", 2, 12, (), 17)]
