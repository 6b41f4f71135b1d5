"""The plan of a torture: the same seed repeats it, it fits the time, and it strikes only what is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.errors import ConfigurationError
from recado.torture.plan import FAULTS, make_plan
from recado.torture.script import Script

TERMS = {
    "seed": st.integers(0, 2**32),
    "seconds": st.floats(5, 3600),
    "brokers": st.sampled_from([1, 3]),
    "gateways": st.integers(1, 2),
    "kinds": st.lists(st.sampled_from(sorted(FAULTS)), max_size=4),
}


@given(**TERMS)
def test_the_same_seed_gives_the_same_plan(**terms):
    assert make_plan(**terms) == make_plan(**terms)


@given(**TERMS)
def test_faults_follow_one_another_within_the_time_and_strike_what_is_there(**terms):
    plan = make_plan(**terms)
    for fault, following in zip(plan.faults, plan.faults[1:], strict=False):
        assert fault.at_s + fault.lasts_s < following.at_s
    for fault in plan.faults[1:]:
        assert fault.at_s + fault.lasts_s <= plan.seconds + 0.2  # rounded to tenths
    for fault in plan.faults:
        kind = FAULTS[fault.kind]
        assert kind.brokers <= plan.brokers
        most = {"broker": plan.brokers, "gateway": plan.gateways, "all": 0}[kind.target]
        assert min(most, 1) <= fault.target <= most
        assert not terms["kinds"] or fault.kind in terms["kinds"]


def test_every_kind_comes_once_before_any_comes_again():
    plan = make_plan(seed=1, seconds=1800, brokers=3, gateways=2)
    rounds = [fault.kind for fault in plan.faults]
    for start in range(0, len(rounds) - len(FAULTS), len(FAULTS)):
        assert set(rounds[start : start + len(FAULTS)]) == set(FAULTS)


def test_another_seed_gives_another_plan():
    assert len({make_plan(seed=seed, seconds=60, brokers=1, gateways=1).faults for seed in range(10)}) == 10


def test_a_fault_that_needs_more_brokers_is_left_out_and_said():
    plan = make_plan(seed=1, seconds=60, brokers=1, gateways=1, kinds=["roll-brokers", "kill-broker"])
    assert {fault.kind for fault in plan.faults} == {"kill-broker"}
    assert plan.left_out == ("roll-brokers needs 3 brokers",)


def test_an_unknown_fault_is_named_with_those_that_exist():
    with pytest.raises(ConfigurationError, match=r"'kill-brokr'.*kill-broker"):
        make_plan(seed=1, seconds=60, brokers=1, gateways=1, kinds=["kill-brokr"])


@given(seed=st.integers(0, 1000), sender=st.integers(0, 63))
def test_a_sender_counts_each_of_its_keys_and_repeats_itself_by_seed(seed, sender):
    one, two = Script(seed, sender, "t"), Script(seed, sender, "t")
    last: dict[str, int] = {}
    for _ in range(50):
        ask = one.next()
        assert ask == two.next()
        for sent in ask.records:
            assert sent.key.startswith(f"s{sender}-")
            assert sent.number == last.get(sent.key, 0) + 1
            last[sent.key] = sent.number
