"""A pattern means to Kafka's client what it means in Python."""

from __future__ import annotations

import re
import subprocess

import pytest

from recado.errors import ConfigurationError
from recado.kafka.patterns import posix

NAMES = ["orders", "orders.1", "orders.22", "orders-d", "orders.d", "orders_w", "a]b", "o.1-x", "orders.x1"]


@pytest.mark.parametrize(
    "pattern",
    [r"^orders\..*", r"^orders\.\d+$", r"^orders\.\D$", r"^orders[\d._-]+", r"^\w+$", r"^[\w.]+\d$", r"^[^\d]+$",
     r"^[\w\-.]+$", r"^orders[a\-.]",
     r"^[a\]]+b", r"^orders\.\d+?$", r"\Aorders\Z", r"^orders[^\w]d$",
     r"^[]a]+b", r"^orders[.-][^]]$", r"^o[\.]1[-]x$", r"^orders(\.\d{2}|-d)$"],
)  # fmt: skip
def test_it_finds_the_same_names(pattern):
    ran = subprocess.run(["grep", "-E", posix(pattern)], input="\n".join(NAMES), capture_output=True, text=True)
    assert ran.stdout.split() == [name for name in NAMES if re.search(pattern, name)]


def test_what_posix_cannot_say_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"\\D in brackets"):
        posix(r"^orders[\D]")
