"""From numpydoc to Markdown, for the site: roles become links, citations and simple tables what they look like."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod):`~?(?:anyops\.)?([\w.]+)`")
CITED = re.compile(r"\[(\d)\]_")
REFERENCE = re.compile(r"^\.\. \[(\d)\] (.*(?:\n {3,}.*)*)", re.MULTILINE)
RULE = re.compile(r"^=+(?: +=+)+$\n(.*?)^=+(?: +=+)+$", re.MULTILINE | re.DOTALL)
CHOICE = re.compile(r"^(\w+(?:, \w+)* : )\{([^}]*)\}", re.MULTILINE)


def markdown(text: str, public: set[str]) -> str:
    """One docstring; a role of what is not public stays code without a link."""
    text = RULE.sub(lambda found: "".join(f"    {line}\n" for line in found[1].splitlines()), text)
    text = ROLE.sub(lambda f: f"[`{f[1]}`][anyops.{f[1]}]" if f[1] in public else f"`{f[1]}`", text)
    text = REFERENCE.sub(lambda found: f"{found[1]}. " + " ".join(found[2].split()), text)
    # A set would be read as "the first is the default".
    text = CHOICE.sub(lambda found: found[1] + found[2].replace(", ", " | "), text)
    return CITED.sub(r"[\1]", text)


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
