"""The pages of docs say what is true: their examples run, and their picture can be drawn."""

import doctest
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import anyops

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"```pycon\n(.*?)```", re.DOTALL)


def examples(text):
    """Return the pycon blocks of a page, each on its lines; those that need an absent library left out."""
    kept, done = "", 0
    for block in BLOCK.finditer(text):
        libraries = re.findall(r"^>>> import (\w+)", block[1], re.MULTILINE)
        if all(importlib.util.find_spec(name) for name in libraries):
            kept += "\n" * text.count("\n", done, block.start(1)) + block[1]
            done = block.end(1)
    return kept


@pytest.mark.parametrize(
    "page", [p for p in PAGES if BLOCK.search(p.read_text(encoding="utf-8"))], ids=lambda p: p.name
)
def test_examples(page):
    test = doctest.DocTestParser().get_doctest(examples(page.read_text(encoding="utf-8")), {}, page.name, str(page), 0)
    assert test.examples
    report = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def test_links():
    for page in (ROOT / "README.md", *PAGES):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).is_file(), f"{page.name}: {target}"


def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    script = ROOT / "docs" / "scripts" / "suppression.py"
    command = [sys.executable, "-W", "error", str(script), str(tmp_path / "scene.png")]
    subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    assert (tmp_path / "scene.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_page_names_every_op_of_the_family():
    page = (ROOT / "docs" / "suppression.md").read_text(encoding="utf-8")
    family = [name for name in anyops.__all__ if "nms" in name or "fusion" in name]
    assert not [name for name in family if f"`{name}" not in page]
