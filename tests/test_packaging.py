"""Facts about the package are the same in all files."""

import re
import tomllib
from pathlib import Path

import pytest

import anyops

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RECIPE = (ROOT / "packaging" / "recipe.yaml").read_text(encoding="utf-8")


def required(section):
    """Names and versions in a section of the recipe, except Python."""
    lines = re.search(rf"^ +{section}:\n((?: +- .*\n)+)", RECIPE, re.MULTILINE)[1]
    return {line.replace(" ", "").lstrip("-") for line in lines.splitlines() if "python " not in line}


def test_conda_requires_what_pip_does():
    project = PROJECT["project"]
    assert required("run") == set(project["dependencies"])
    assert required("host") - {"pip"} == set(PROJECT["build-system"]["requires"])
    extras = {name.replace("torch>", "pytorch>") for some in project["optional-dependencies"].values() for name in some}
    extras = {re.sub(r"\[\w+\]|-cuda\d+x", "", name) for name in extras}
    assert required("run_constraints") <= extras


@pytest.mark.parametrize("path", ["packaging/recipe.yaml", "CITATION.cff"])
def test_versions_agree(path):
    (version,) = re.findall(r'^ *version: "?([\d.]+)"?$', (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert version == anyops.__version__
