"""From numpydoc to Markdown, for the site.

Roles become links, citations plain, simple tables lists, and each of several names described together an entry.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod):`~?(?:anyops\.)?([\w.]+)`")
CITED = re.compile(r"\[(\d)\]_")
REFERENCE = re.compile(r"^\.\. \[(\d)\] (.*(?:\n {3,}.*)*)", re.MULTILINE)
RULE = re.compile(r"^(=+(?: +=+)+)$\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^(\w+(?:, \w+)*)(?: : (.*))?\n((?: {4}.*(?:\n|$)|\n(?= {4}))*)", re.MULTILINE)
SAME = re.compile(r"\s*As in :func:`(?:anyops\.)?(\w+)`")
SHAPED = re.compile(r"(^\w+ : |(?<=^-------\n))(array \(.*?)(, optional)?$", re.MULTILINE)
CHOICE = re.compile(r"^(\w+(?:, \w+)* : )\{([^}]*)\}", re.MULTILINE)


def markdown(text: str, public: dict[str, str]) -> str:
    """One docstring; `public` are the docstrings of all public names. A role of another name stays code."""
    text = RULE.sub(rows, text)
    text = FIELD.sub(lambda field: entries(field, public), text)
    text = ROLE.sub(lambda f: f"[`{f[1]}`][anyops.{f[1]}]" if f[1] in public else f"`{f[1]}`", text)
    text = REFERENCE.sub(lambda found: f"{found[1]}. " + " ".join(found[2].split()), text)
    # A set would be read as "the first is the default", and strings as names of types; the pages leave the backticks
    # out (site.py).
    text = CHOICE.sub(lambda found: f"{found[1]}`{found[2].replace(', ', ' | ')}`", text)
    # As a call, "array (C,)" would lose its comma.
    text = SHAPED.sub(r"\1`\2`\3", text)
    return CITED.sub(r"[\1]", text)


def entries(field: re.Match[str], public: dict[str, str]) -> str:
    """Names that share a description, each with its own; the site reads the default of the first for all of them.

    Without a type, the names have the types of the function that the description refers to.
    """
    names, kind, description = field[1].split(", "), field[2], field[3]
    same = SAME.match(description)
    if kind is None and same is None:
        return field[0]  # not names: an error that is raised, the title of a section
    types = dict.fromkeys(names, kind) if kind is not None else types_of(same[1], public)
    return "".join(f"{name} : {types[name]}\n{description}" for name in names)


def types_of(function: str, public: dict[str, str]) -> dict[str, str]:
    """The type of each parameter of a public function, as its docstring has it."""
    parameters = public[function].partition("Parameters\n")[2].partition("\nReturns\n")[0]
    found = {}
    for field in FIELD.finditer(parameters):
        same = SAME.match(field[3])
        if field[2] is None and same is None:
            continue
        others = types_of(same[1], public) if field[2] is None else {}
        found |= {name: others.get(name, field[2]) for name in field[1].split(", ")}
    return found


def rows(table: re.Match[str]) -> str:
    """A table of words and their meanings as a list, whose lines a browser may break."""
    out = ""
    for line in table[2].splitlines():
        word, _, meaning = line.partition(" ")
        meaning = " ".join(meaning.split()).replace("*", "\\*").replace("_", "\\_").replace("]\\_", "]_")
        out += f"- `{word}` – {meaning}\n" if word else f"  {meaning}\n"
    return out


def fields(item: Any) -> str:
    """The names of the fields of a named tuple, unless its docstring describes them."""
    if (
        not item.is_class
        or not any(str(base) == "NamedTuple" for base in item.bases)
        or "Attributes\n" in item.docstring.value
    ):
        return ""
    names = [f"`{name}`" for name, member in item.members.items() if member.is_attribute and not name.startswith("_")]
    return f"\n\nFields: {', '.join(names)}."


class Roles(griffe.Extension):
    """Rewrites every docstring once the package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Walk the tree."""
        names = [name if isinstance(name, str) else name.name for name in pkg.exports or ()]
        public = {name: pkg[name].docstring.value if pkg[name].docstring else "" for name in names}
        pending: list[Any] = [pkg]
        while pending:
            item = pending.pop()
            if item.docstring:
                item.docstring.value = markdown(item.docstring.value, public) + fields(item)
            pending += [member for member in item.members.values() if not member.is_alias]
