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
# The pages that explain them by examples.
GUIDES = {
    "boxes": "[boxes and overlaps](../boxes.md)",
    "suppression": "[NMS](../nms.md), [the variants, and how to choose](../suppression.md)",
    "losses": "[losses](../losses.md)",
    "norm": "[batch norm](../batch_norm.md)",
    "cluster": "[k-means](../kmeans.md), [anchors and streams](../anchors.md)",
    "logistic": "[logistic regression](../logistic_regression.md)",
    "_array": "[what runs where](../support.md), [your own array library](../any_array.md)",
    "estimators": "[estimators](../estimators.md)",
    "onnx": "[in a compiled or exported model](../deploy.md)",
}
OUTSIDE = re.compile(r"\]\((?P<up>(?:\.\./)+)?(?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")
EMPTY = re.compile(r"\s*–\s*(<div class=\"doc-md-description\">\s*</div>)")
CALL_IN_TABLE = re.compile(r"(?<=<code>)[^<]*\([^<]*(?=</code>(?:(?!<td).)*</td>)", re.DOTALL)
BREAK = re.compile(r"(?<=[(\[._])(?=[A-Za-z(\[])")
INLINE_CODE = re.compile(r"<code>([^<]*)</code>")
LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", re.I)
# How much a page counts in a search, where it is not 1: guides first, then what explains or lists.
BOOST = {
    "nms.md": 2.5,
    "suppression.md": 1.2,
    "boxes.md": 1.5,
    "kmeans.md": 2.5,
    "logistic_regression.md": 2.5,
    "losses.md": 1.5,
    "gpu.md": 1.5,
    "index.md": 1.5,
    "command.md": 1.5,
    "conventions.md": 0.7,
    "detector.md": 0.7,
    "performance.md": 0.5,
    "how_nms_works.md": 0.3,
    "CONTRIBUTING.md": 0.2,
    "RELEASING.md": 0.2,
    "CHANGELOG.md": 0.1,
}
LISTING_BOOST = 0.5
COMMAND = "command.md"
FORMULA = re.compile(r"^```math\n(?P<tex>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_FORMULA = re.compile(r"\$`(?P<tex>[^`]+)`\$")  # as GitHub writes them
PICTURE = re.compile(r"<img [^>]*?src=\"(?P<file>[^\"]+)\"[^>]*>")


def public_names() -> dict[str, list[str]]:
    """The names that anyops exports, by part, as its __init__ imports them."""
    found: dict[str, list[str]] = {}
    tree = ast.parse((ROOT / "src" / "anyops" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("_version"):
            found.setdefault(node.module.partition(".")[0], []).extend(alias.name for alias in node.names)
    return found


def listed_names() -> list[str]:
    """The functions of anyops, in the order of help(anyops)."""
    text = ast.get_docstring(ast.parse((ROOT / "src" / "anyops" / "__init__.py").read_text(encoding="utf-8"))) or ""
    return re.findall(r"^    (\w+)  ", text, re.MULTILINE)


def api_pages() -> dict[str, tuple[str, str]]:
    """Title and text of each page of the API, by its path; functions as the package lists them, then result types."""
    pages, listed = {}, listed_names()
    for part, names in sorted(public_names().items(), key=lambda item: list(PARTS).index(item[0])):
        title = PARTS[part]
        ordered = sorted(names, key=lambda name: (listed.index(name) if name in listed else len(listed), name))
        pages[f"api/{part.strip('_')}.md"] = title, api_page(title, part, ordered)
    classes = ["estimators.KMeans", "estimators.LogisticRegression"]
    pages["api/estimators.md"] = "Estimators", api_page("Estimators", "estimators", classes)
    pages["api/onnx.md"] = "ONNX", api_page("ONNX", "onnx", ["onnx.export"])
    return pages


def api_page(title: str, part: str, names: list[str]) -> str:
    """A page of the API: what it is, where its guide is, then each name."""
    intro = f"The reference: arguments, results, errors and sources. With examples and pictures: {GUIDES[part]}."
    return "\n\n".join([f"# {title}", intro, *(f"::: anyops.{name}" for name in names)]) + "\n"


def linked_files() -> set[str]:
    """Paths of the repository's files outside of docs/ that pages link to."""
    found = set()
    for page in (ROOT / "docs").glob("*.md"):
        for link in OUTSIDE.finditer(page.read_text(encoding="utf-8")):
            if link["up"] and link["target"] != "README.md":
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


def command() -> str:
    """The page of the command line: that part of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return "# The command line\n" + text.partition("\n## The command\n")[2].partition("\n## ")[0]


def on_config(config: Any) -> Any:
    """Put the API into the navigation; leave out pages that are not written yet."""
    config.watch += [str(ROOT / "src"), str(ROOT / "CHANGELOG.md"), str(ROOT / "CONTRIBUTING.md")]
    here = {COMMAND} | {path.name for path in (ROOT / "docs").glob("*.md")} | {path.name for path in ROOT.glob("*.md")}
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
    project[COMMAND] = command()
    for uri, text in project.items():
        files.append(File.generated(config, uri, content=text))
    for path in linked_files() - set(project):
        files.append(File.generated(config, page_of(path), content=shown(path), inclusion=InclusionLevel.NOT_IN_NAV))
    for uri, (_, text) in api_pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Write formulas as MathML, which browsers draw; lead links that leave docs/, or enter it, to their pages."""
    uri = page.file.src_uri
    page.meta["search"] = {"boost": LISTING_BOOST if uri.startswith("files/") else BOOST.get(uri, 1)}

    def moved(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if target == "README.md":  # pages link to its part on the command only
            return f"]({COMMAND})"
        if link["up"]:
            return f"]({page_of(target)}{anchor})"
        return f"]({target.removeprefix('docs/')}{anchor})"

    def as_mathml(formula: re.Match[str]) -> str:
        from latex2mathml.converter import convert  # here, as above

        if formula.re is FORMULA:
            return convert(formula["tex"], display="block")
        return f"<span>{convert(formula['tex'])}</span>"  # a line that begins with <math> would be a block

    markdown = INLINE_FORMULA.sub(as_mathml, FORMULA.sub(as_mathml, markdown))
    return OUTSIDE.sub(moved, markdown) if "/" not in uri else markdown


def on_page_content(html: str, *, page: Any, config: Any, files: Any) -> str:
    """In the API, end a parameter without a description after its type, and show types without backticks.

    Elsewhere let long calls in tables break, so that a narrow screen shows all columns, and let a picture open in its
    own size.
    """
    if not page.file.src_uri.startswith("api/"):
        html = PICTURE.sub(lambda picture: f'<a href="{picture["file"]}">{picture[0]}</a>', html)
        return CALL_IN_TABLE.sub(lambda call: BREAK.sub("<wbr>", call[0]), html)
    html = EMPTY.sub(r"\1", html)
    return INLINE_CODE.sub(lambda code: code[0].replace("`", ""), html)


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Refuse a page that loads something from elsewhere; links to other sites are no loads."""
    from mkdocs.exceptions import PluginError  # here, as above

    if found := loads(output):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {', '.join(found)}")
    return output


def loads(html: str) -> list[str]:
    """The elements of a page by which a browser fetches from another host without being asked."""
    return [tag for tag in LOADED.findall(html) if 'rel="canonical"' not in tag]
