"""What may follow from what is on the disk."""

import pytest

from recado.embedded.cluster import Cluster, Wish, load, plan, save
from recado.embedded.config import Node
from recado.errors import ConfigurationError, EmbeddedKafkaError

ONE = Cluster("4.3.1", "id", "localhost", False, (Node(1, 9092, 20001),))
THREE = Cluster("3.9.1", "id", "localhost", True, tuple(Node(i, 9091 + i, 20000 + i, 30000 + i) for i in (1, 2, 3)))


def wish(**changes: object) -> Wish:
    fields: dict[str, object] = {
        "version": "4.3.1",
        "brokers": None,
        "port": 9092,
        "host": "localhost",
        "secure": False,
    }
    return Wish(**{**fields, **changes})  # type: ignore[arg-type]


def planned(recorded: Cluster | None, wished: Wish, taken: tuple[int, ...] = ()) -> Cluster:
    numbers = iter(range(16000, 16100))
    return plan(recorded, wished, is_free=lambda port: port not in taken, free_port=lambda _: next(numbers))


def test_a_first_start_takes_the_wished_port_and_a_free_one_for_the_controller():
    cluster = planned(None, wish())
    assert cluster.nodes == (Node(1, 9092, 16000),)
    assert cluster.bootstrap_servers == "localhost:9092"


def test_the_ports_of_a_cluster_follow_the_first():
    cluster = planned(None, wish(brokers=3, secure=True))
    assert [node.port for node in cluster.nodes] == [9092, 9093, 9094]
    ports = [p for n in cluster.nodes for p in (n.port, n.controller_port, n.internal_port)]
    assert len(set(ports)) == 9


def test_port_zero_takes_any_free_one():
    assert planned(None, wish(port=0)).nodes == (Node(1, 16000, 16001),)


def test_port_zero_takes_the_recorded_ones_while_they_are_free():
    assert planned(ONE, wish(port=0)).nodes == ONE.nodes
    assert planned(ONE, wish(port=0), taken=(9092,)).nodes == (Node(1, 16000, 20001),)


def test_a_wished_port_that_is_taken_is_named_with_both_remedies():
    with pytest.raises(EmbeddedKafkaError, match="Port 9093 is taken") as caught:
        planned(None, wish(brokers=3), taken=(9093,))
    assert "RECADO_BOOTSTRAP_SERVERS=localhost:9093" in str(caught.value)
    assert "--port" in str(caught.value)


def test_a_controller_moves_out_of_the_way_of_another_program():
    assert planned(ONE, wish(), taken=(20001,)).nodes == (Node(1, 9092, 16000),)


def test_a_later_version_takes_over_the_data_and_an_earlier_one_does_not():
    newer = planned(THREE, wish(secure=True, port=0))
    assert (newer.version, newer.cluster_id) == ("4.3.1", "id")
    with pytest.raises(EmbeddedKafkaError, match=r"--version 4\.3\.1"):
        planned(ONE, wish(version="3.9.1"))


def test_the_number_of_brokers_is_fixed_and_recorded():
    assert len(planned(THREE, wish(secure=True)).nodes) == 3
    with pytest.raises(EmbeddedKafkaError, match="--brokers 3"):
        planned(THREE, wish(secure=True, brokers=1))


def test_security_is_fixed_at_the_first_start():
    with pytest.raises(EmbeddedKafkaError, match="with SASL_SSL"):
        planned(THREE, wish())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"host": "0.0.0.0"}, "host"),
        ({"brokers": 0}, "brokers"),
        ({"brokers": 6}, "brokers"),
        ({"port": 65536}, "port"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(changes, named):
    with pytest.raises(ConfigurationError, match=f"^{named} is"):
        wish(**changes)


def test_what_is_saved_is_loaded(tmp_path):
    assert load(tmp_path) is None
    save(THREE, tmp_path)
    assert load(tmp_path) == THREE


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"nodes": 1}', '{"nodes": [{"id": 1}]}'])
def test_a_damaged_record_names_the_remedy(tmp_path, text):
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(EmbeddedKafkaError, match="recado kafka reset"):
        load(tmp_path)


def test_a_cluster_id_never_looks_like_an_option():
    ids = [planned(None, wish(port=0)).cluster_id for _ in range(200)]
    assert all(len(cluster_id) == 22 and not cluster_id.startswith("-") for cluster_id in ids)
