"""For integration tests: a Kafka secured by SASL_SSL with SCRAM, the program `recado kafka`, clients and waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from recado.embedded import EmbeddedKafka, Security
from tests.kafka_fixture import kafka_version, start_kafka

#: For what takes a second or two, on a machine that is very busy.
DEADLINE_S = 60.0

#: The one user that the secured broker knows.
USER, PASSWORD = "alice", "alice-secret"


class SecureKafka(NamedTuple):
    """A running broker, and the librdkafka properties with which a client reaches it as ``USER``."""

    kafka: EmbeddedKafka
    properties: dict[str, str]


@pytest.fixture(scope="session")
def security(tmp_path_factory: pytest.TempPathFactory) -> Security:
    """Certificates for both names of loopback by an authority of this run, and one user."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    # Java reads PKCS #8 only, which trustme does not write.
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return Security(folder / "chain.pem", folder / "key.pem", folder / "ca.pem", {USER: PASSWORD})


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory, security: Security) -> Iterator[SecureKafka]:
    """One broker that demands SASL_SSL with SCRAM, shared by the whole run: leave it running."""
    with start_kafka(tmp_path_factory.mktemp("secure"), security=security) as running:
        properties = {
            "bootstrap.servers": running.bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(security.ca_pem),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }
        yield SecureKafka(running, properties)


def client(servers: str, **more: str) -> dict[str, str]:
    """The properties of a client of an unsecured broker."""
    return {"bootstrap.servers": servers, "broker.address.family": "v4", **more}


def eventually(condition: Callable[[], object]) -> bool:
    """Wait until the condition holds; False when it does not within ``DEADLINE_S``."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def command(folder: Path, servers: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `recado kafka ARGUMENTS` in a process of its own, as a terminal would, with its data in ``folder``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
    environment |= {
        "RECADO_DATA_DIR": str(folder),
        "RECADO_BOOTSTRAP_SERVERS": servers,
        "RECADO_KAFKA_VERSION": kafka_version(),
    }
    program = [sys.executable, "-c", "from recado.cli.main import main; main()", "kafka", *arguments]
    return subprocess.run(
        program, capture_output=True, cwd=folder.parent, env=environment, input=stdin, text=True, timeout=DEADLINE_S
    )


def refusal(properties: dict[str, str]) -> list[int]:
    """The codes of the errors that keep a client out; it gets no answer either."""
    errors: list[KafkaError] = []
    admin = AdminClient({**properties, "error_cb": errors.append, "log_level": "0"})
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=1)
    assert eventually(lambda: admin.poll(0.05) or errors)
    return [error.code() for error in errors]
