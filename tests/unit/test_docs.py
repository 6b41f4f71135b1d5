"""The pages say what the code does: every setting, metric, route, command and error code, and no other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from recado.cli.main import COMMANDS
from recado.settings import Settings, environment_name, load
from recado.telemetry import metrics
from recado.torture import FAULTS
from recado.torture.worker import FAULTS as WORKER_FAULTS

ROOT = Path(__file__).parents[2]
DOCS = {page.name: page.read_text() for page in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text()
SPANISH = (ROOT / "README.es.md").read_text()


def test_every_setting_stands_with_its_default():
    source = load(command_line={}, environment={}, directory=Path("/nonexistent"))
    for name, value, _ in source.rows():
        assert f"| `{name}` | `{environment_name(name)}` | `{value}` |" in DOCS["settings.md"]
    told = set(re.findall(r"^\| `(\w+)` \|", DOCS["settings.md"], re.MULTILINE))
    assert told <= set(Settings.__struct_fields__)


def test_the_index_names_every_page():
    assert set(re.findall(r"\]\((\w[\w-]*\.md)\)", DOCS["README.md"])) == set(DOCS) - {"README.md"}


def test_every_metric_stands_and_no_other():
    assert metrics
    declared = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if family.name.startswith("recado_")
    }
    assert set(re.findall(r"^\| `(recado_\w+)`", DOCS["metrics.md"], re.MULTILINE)) == declared


def test_every_fault_stands_and_no_other():
    rows = re.findall(r"^\| `([a-z-]+)` \|", DOCS["torture.md"], re.MULTILINE)
    workers_own = [name for name in WORKER_FAULTS if name not in FAULTS]
    assert rows == [*FAULTS, *workers_own]


def test_every_command_stands_in_both_readmes():
    for command in COMMANDS:
        for text in (README, SPANISH):
            assert re.search(rf"`(recado )?{command}\b|recado {command}\b", text), command


def test_every_error_code_stands():
    source = "".join(page.read_text() for page in (ROOT / "src/recado/gateway").glob("*.py"))
    codes = set(re.findall(r'Problem\(\s*\d{3},\s*"([a-z-]+)"', source)) - {"internal"}
    codes |= set(re.findall(r'code = "([a-z-]+)"', (ROOT / "src/recado/errors.py").read_text())) & {
        "kafka-unreachable", "unknown-topic", "not-allowed", "record-too-large", "backpressure", "delivery-failed",
        "delivery-unknown",
    }  # fmt: skip
    missing = [code for code in codes if f"`{code}`" not in DOCS["gateway.md"]]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "README.es.md"])
def test_the_readme_is_short_and_its_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    assert text.count("\n") <= 150
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target


def test_both_readmes_show_the_same_commands_and_code():
    blocks = [re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for text in (README, SPANISH)]
    assert len(blocks[0]) == len(blocks[1])
    assert blocks[0][1:] == blocks[1][1:]  # the picture has words


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_can_be_imported(example):
    code = f"import runpy; runpy.run_path({str(example)!r}, run_name='example')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
