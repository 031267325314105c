"""The committed type table is what the script makes of the nodesets; the lazy space equals the imported one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.opcua import compiler
from tests import needs

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    needs.npm()
    with compiler.fetched_nodesets() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bridge.opcua.compare_spaces", str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_committed_table_is_what_the_script_makes(comparison: dict[str, Any]) -> None:
    assert comparison["same_table"]


def test_the_lazy_space_has_every_reference_and_attribute_of_the_imported_one(
    comparison: dict[str, Any],
) -> None:
    assert comparison["differences"] == []
    assert comparison["only_in_table"] == 0
    assert comparison["nodes"] > 9000
    assert comparison["references"] > 37000
    assert comparison["attributes"] > 100_000


def test_the_nodesets_of_all_models_are_named_once() -> None:
    assert len({model.prefix for model in compiler.MODELS}) == len(compiler.MODELS) == 11
    assert len({model.uri for model in compiler.MODELS}) == 11
