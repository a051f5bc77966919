"""From numpydoc to Markdown, for the site: roles become links, citations plain, and simple tables lists."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod):`~?(?:anyops\.)?([\w.]+)`")
CITED = re.compile(r"\[(\d)\]_")
REFERENCE = re.compile(r"^\.\. \[(\d)\] (.*(?:\n {3,}.*)*)", re.MULTILINE)
RULE = re.compile(r"^(=+(?: +=+)+)$\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
SAME = re.compile(r"^([a-z]\w*(?:, \w+)+)$(?=\n    As in)", re.MULTILINE)
CHOICE = re.compile(r"^(\w+(?:, \w+)* : )\{([^}]*)\}", re.MULTILINE)


def markdown(text: str, public: set[str]) -> str:
    """One docstring; a role of what is not public stays code without a link."""
    text = RULE.sub(rows, text)
    text = ROLE.sub(lambda f: f"[`{f[1]}`][anyops.{f[1]}]" if f[1] in public else f"`{f[1]}`", text)
    text = REFERENCE.sub(lambda found: f"{found[1]}. " + " ".join(found[2].split()), text)
    # A set would be read as "the first is the default".
    text = CHOICE.sub(lambda found: found[1] + found[2].replace(", ", " | "), text)
    # Without a type, each would get the type of the first; the pages leave this word out (site.py).
    text = SAME.sub(r"\1 : SAME", text)
    return CITED.sub(r"[\1]", text)


def rows(table: re.Match[str]) -> str:
    """A table of words and their meanings as a list, whose lines a browser may break."""
    out = ""
    for line in table[2].splitlines():
        word, _, meaning = line.partition(" ")
        meaning = " ".join(meaning.split()).replace("*", "\\*").replace("_", "\\_").replace("]\\_", "]_")
        out += f"- `{word}` – {meaning}\n" if word else f"  {meaning}\n"
    return out


class Roles(griffe.Extension):
    """Rewrites every docstring once the package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Walk the tree."""
        public = set(pkg.exports or ())
        names = {name if isinstance(name, str) else name.name for name in public}
        pending: list[Any] = [pkg]
        while pending:
            item = pending.pop()
            if item.docstring:
                item.docstring.value = markdown(item.docstring.value, names)
            pending += [member for member in item.members.values() if not member.is_alias]
