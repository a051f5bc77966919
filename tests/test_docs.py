"""The pages are right: their code runs, their commands and links exist, their pictures can be drawn."""

import ast
import contextlib
import doctest
import importlib.util
import io
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import anyops

ROOT = Path(__file__).parents[1]
PAGES = [page for folder in ("docs", "examples/detector", ".") for page in sorted((ROOT / folder).glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = ("python", "pycon")


def blocks(page):
    """The fenced blocks of a page: language, text, and the first line of the text."""
    text = page.read_text(encoding="utf-8")
    return [(b[1], b[2], text.count("\n", 0, b.start(2))) for b in BLOCK.finditer(text)]


def imported(code):
    """The libraries that a block imports."""
    needed = ["sklearn"] if "anyops.estimators" in code else []
    named = re.findall(r"^(?:>>> )?(?:import|from) (\w+)", code, re.MULTILINE)
    return needed + named + re.findall(r", (\w+)\.numpy as", code)


def run(kind, code, line, page, names):
    """Run one block with the names defined by earlier blocks; return differences from the page."""
    if kind == "python":
        tree = ast.parse(code)
        exec(compile(ast.increment_lineno(tree, line), str(page), "exec"), names)
        return ""
    test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
    report = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    names.update(test.globs)
    return "".join(report)


# As in tests/backends.py: array-api-compat caches namespaces, https://github.com/pytorch/pytorch/issues/155352
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(kind in CODE for kind, *_ in blocks(p))], ids=lambda page: page.name
)
def test_code_runs(page):
    """A block builds on the earlier ones; blocks that import a missing library are skipped."""
    names, ran = {"__name__": page.stem}, 0
    for kind, code, line in blocks(page):
        if kind in CODE and all(importlib.util.find_spec(library) for library in imported(code)):
            with contextlib.redirect_stdout(io.StringIO()) if kind == "python" else contextlib.nullcontext():
                assert not (report := run(kind, code, line, page, names)), report
            ran += 1
    if not ran:
        pytest.skip(f"{page.name}: none of the libraries that its code imports is here")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    """The language of each block is known, and commands in blocks exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sessions = re.findall(
        r"^(?:@nox\.session.*\ndef (\w+)| {4}\"(\w+)\": \(\[)", (ROOT / "noxfile.py").read_text(), re.M
    )
    commands = ("nms", "anchors", "backends")
    for kind, text, line in blocks(page):
        where = f"{page.name}:{line}"
        assert kind in (*CODE, "sh", "math", ""), f"{where}: {kind} is not checked"
        if kind in (*CODE, "math"):
            continue
        for names in re.findall(r"nox -s ((?:\w+ ?)+)", text):
            assert set(names.split()) <= {name for pair in sessions for name in pair}, f"{where}: nox -s {names}"
        for extras in re.findall(r"'\.\[([\w,]+)\]'", text):
            assert set(extras.split(",")) <= set(project["optional-dependencies"]), f"{where}: [{extras}]"
        for script in re.findall(r"python (?:-\w+ )*([\w/]+\.py)", text):
            assert (ROOT / script).is_file(), f"{where}: {script}"
        for command in re.findall(r"(?:^|bin/|[|&] )anyops (\w+)", text, re.M):
            assert command in commands, f"{where}: anyops {command}"


def test_links():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).is_file(), f"{page.name}: {target}"


def test_navigation_holds_every_page():
    listed = re.findall(r"^ +- .*: (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert len(listed) == len(set(listed))
    assert {page.name for page in PAGES} - {"README.md"} <= set(listed)


def test_reference_holds_every_name():
    site = script("docs/scripts/site.py")
    held = [name for names in site.public_names().values() for name in names]
    assert sorted([*held, "__version__"]) == sorted(anyops.__all__)
    assert set(site.public_names()) <= set(site.PARTS)


def test_reference_lists_functions_as_help_does():
    site = script("docs/scripts/site.py")
    assert sorted([*site.listed_names(), "__version__"]) == sorted(name for name in anyops.__all__ if name.islower())
    assert site.api_pages()["api/suppression.md"][1].partition("::: ")[2].startswith("anyops.nms\n")


def test_reference_gives_each_name_its_own_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "griffe", types.SimpleNamespace(Extension=object))  # a tool of the site alone
    docstrings = script("docs/scripts/docstrings.py")
    head, results = "Parameters\n----------\n", "\nReturns\n-------\na, b : array (C,)\n    Sums.\n"
    public = {"f": f"{head}x : array (n,)\n    Samples.\neps, tol : float, optional\n    Small.\n"}
    found = docstrings.markdown(f"{head}x, eps\n    As in :func:`f`.\n{results}", public)
    same = "    As in [`f`][anyops.f].\n"
    assert f"\nx : `array (n,)`\n{same}eps : float, optional\n{same}" in found
    assert "\na : `array (C,)`\n    Sums.\nb : `array (C,)`\n    Sums.\n" in found
    raised = "H.\n\nRaises\n------\nTypeError, ValueError\n    If it is wrong.\n"
    assert docstrings.markdown(raised, public) == raised


def test_calls_in_tables_break():
    page = type("Page", (), {"file": type("File", (), {"src_uri": "a.md"})})
    shown = script("docs/scripts/site.py").on_page_content
    row = "<code>f.g(a)</code><td><code>f.g_h(a[0], 0.5)</code> <code>f_g</code></td>"
    broken = "<code>f.g(a)</code><td><code>f.<wbr>g_<wbr>h(<wbr>a[0], 0.5)</code> <code>f_g</code></td>"
    assert shown(row, page=page, config=None, files=None) == broken


def test_pages_load_nothing_from_elsewhere():
    site = script("docs/scripts/site.py")
    harmless = '<a href="https://a.b/c"></a><script src="c.js"></script><link rel="stylesheet" href="../d.css">'
    assert not site.loads(harmless)
    loaded = [
        '<script src="https://a.b/c"></script>',
        '<img alt="d" src=//a.b/d.png>',
        "<link href='http://a.b/e.css'>",
    ]
    assert [site.loads(harmless + tag) for tag in loaded] == [[tag.partition("</")[0]] for tag in loaded]


def script(path):
    """Import a script of the docs as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-W", "error", str(ROOT / "docs/scripts/suppression.py"), str(tmp_path / "scene.png")]
    subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    assert (tmp_path / "scene.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("drawn_by", ["guides", "rotated"])
def test_pictures_of_the_guides(tmp_path, drawn_by):
    pytest.importorskip("matplotlib")
    guides = script(f"docs/scripts/{drawn_by}.py")
    guides.main(tmp_path)
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in guides.PICTURES:
        assert (tmp_path / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert f"images/{name}.png" in pages


def test_page_names_every_op_of_the_family():
    page = (ROOT / "docs" / "suppression.md").read_text(encoding="utf-8")
    family = [name for name in anyops.__all__ if "nms" in name or "fusion" in name]
    assert not [name for name in family if f"`{name}" not in page]
