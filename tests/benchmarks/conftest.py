"""The benchmark's scripts import each other by their bare names, as `python benchmarks/run.py` finds them."""

import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"

if SCRIPTS.is_dir():
    sys.path.insert(0, str(SCRIPTS))
else:  # an sdist holds the tests but not the benchmarks
    collect_ignore_glob = ["*"]


@pytest.fixture
def small():
    """Results of two cases, a curve and a memory measurement, written by hand."""
    return json.loads((Path(__file__).parent / "small.json").read_text())
