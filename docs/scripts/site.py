"""What MkDocs cannot read from docs/ alone: the API's pages, and files of the repository that pages link to.

A page links to `../examples/train_digits.py` as it stands in the repository. The site shows that file as a page of
its own, and the link leads there.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Titles of the parts of the API, by the module of the package that holds them.
PARTS = {
    "boxes": "Boxes and overlaps",
    "suppression": "Suppression",
    "losses": "Losses",
    "norm": "Batch norm",
    "cluster": "k-means",
    "logistic": "Logistic regression",
    "_array": "Array libraries",
}
OUTSIDE = re.compile(r"\]\((?P<up>(?:\.\./)+)?(?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")
FORMULA = re.compile(r"^```math\n(?P<tex>.*?)^```$", re.MULTILINE | re.DOTALL)


def public_names() -> dict[str, list[str]]:
    """The names that anyops exports, by part, as its __init__ imports them."""
    found: dict[str, list[str]] = {}
    tree = ast.parse((ROOT / "src" / "anyops" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("_version"):
            found.setdefault(node.module.partition(".")[0], []).extend(alias.name for alias in node.names)
    return found


def api_pages() -> dict[str, tuple[str, str]]:
    """Title and text of each page of the API, by its path; functions first, the tuples that they return last."""
    pages = {}
    for part, names in sorted(public_names().items(), key=lambda item: list(PARTS).index(item[0])):
        title = PARTS[part]
        ordered = sorted(names, key=lambda name: (name[0].isupper(), name))
        text = "\n\n".join([f"# {title}", *(f"::: anyops.{name}" for name in ordered)])
        pages[f"api/{part.strip('_')}.md"] = title, text + "\n"
    pages["api/estimators.md"] = (
        "Estimators",
        "# Estimators\n\n" + "\n\n".join(f"::: anyops.estimators.{name}" for name in ("KMeans", "LogisticRegression")),
    )
    pages["api/onnx.md"] = "ONNX", "# ONNX\n\n::: anyops.onnx.export\n"
    return pages


def linked_files() -> set[str]:
    """Paths of the repository's files outside of docs/ that pages link to."""
    found = set()
    for page in (ROOT / "docs").glob("*.md"):
        for link in OUTSIDE.finditer(page.read_text(encoding="utf-8")):
            if link["up"]:
                found.add(link["target"])
    return found


def page_of(path: str) -> str:
    """Where the site shows a file of the repository."""
    return path if path.endswith(".md") else f"files/{path}.md"


def shown(path: str) -> str:
    """The Markdown that shows a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n```{Path(path).suffix[1:]}\n{text}```\n"


def on_config(config: Any) -> Any:
    """Put the API into the navigation; leave out pages that are not written yet."""
    config.watch += [str(ROOT / "src"), str(ROOT / "CHANGELOG.md"), str(ROOT / "CONTRIBUTING.md")]
    here = {path.name for path in (ROOT / "docs").glob("*.md")} | {path.name for path in ROOT.glob("*.md")}
    for section in config.nav:
        for title, entries in section.items():
            entries[:] = [entry for entry in entries if set(entry.values()) <= here]
            if title == "Reference":
                entries[:0] = [{f"API: {name.lower()}": path} for path, (name, _) in api_pages().items()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File, InclusionLevel  # here, so that the tests can read the rest without it

    project = {path.name: shown(path.name) for path in ROOT.glob("*.md") if path.name != "README.md"}
    for uri, text in project.items():
        files.append(File.generated(config, uri, content=text))
    for path in linked_files() - set(project):
        files.append(File.generated(config, page_of(path), content=shown(path), inclusion=InclusionLevel.NOT_IN_NAV))
    for uri, (_, text) in api_pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Write formulas as MathML, which browsers draw; lead links that leave docs/, or enter it, to their pages."""

    def moved(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if link["up"]:
            return f"]({page_of(target)}{anchor})"
        return f"]({target.removeprefix('docs/')}{anchor})"

    def as_mathml(formula: re.Match[str]) -> str:
        from latex2mathml.converter import convert  # here, as above

        return convert(formula["tex"], display="block")

    markdown = FORMULA.sub(as_mathml, markdown)
    return OUTSIDE.sub(moved, markdown) if "/" not in page.file.src_uri else markdown
