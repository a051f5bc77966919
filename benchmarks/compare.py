"""Report what is slower in one file of results than in another.

    python benchmarks/compare.py OLD NEW [--slower 25] [--ratios]

Exit status 1 if anyops is slower in some case. Times can only be compared on one idle machine; --ratios compares
(peer's time / ours) instead, which carries over between machines of one kind.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

from results import load

DISPATCHED = ("operations", "waits")  # by torch, see counts.py


class Change(NamedTuple):
    """A quantity in both files; `factor` > 1 is worse."""

    what: str
    old: float
    new: float
    factor: float


def quantities(data: dict[str, Any], *, ratios: bool) -> dict[str, float]:
    """The costs of anyops: seconds (or 1 / ratio), bytes, and counts of the work of a call."""
    found: dict[str, float] = {}
    for case in data["cases"]:
        for name, record in case["results"].items():
            if name.startswith("anyops"):
                value = record.get("ratio" if ratios else "seconds")
                if value is not None:
                    found[f"{case['name']}, {name}"] = 1 / value if ratios else value
                found |= {
                    f"{case['name']}, {name}, {key}": record[key] for key in ("calls", *DISPATCHED) if key in record
                }
    for count in data.get("counts", ()):
        found |= {f"{count['op']}, {name}, calls": many for name, many in count["calls"].items()}
        found |= {f"{count['op']}, torch, {key}": count[key] for key in DISPATCHED if key in count}
    for record in data["memory"]:
        if "extra" in record:
            found[f"{record['scene']}, {record['contender']}, memory"] = record["extra"]
    return {what: value for what, value in found.items() if value}


def compare(old: dict[str, Any], new: dict[str, Any], *, ratios: bool = False) -> tuple[list[Change], list[str]]:
    """Changes, worst first, and what is in only one of the files."""
    before, after = quantities(old, ratios=ratios), quantities(new, ratios=ratios)
    common = [what for what in before if what in after]
    changes = [Change(what, before[what], after[what], after[what] / before[what]) for what in common]
    return sorted(changes, key=lambda change: -change.factor), sorted(before.keys() ^ after.keys())


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Other differences between the files, which may explain the changes."""
    found = [
        f"{key}: {old['machine'][key]} -> {new['machine'][key]}"
        for key in ("cpu", "cores", "system")
        if old["machine"][key] != new["machine"][key]
    ]
    for name in old["versions"].keys() | new["versions"].keys():
        was, now = old["versions"].get(name), new["versions"].get(name)
        if was != now:
            found.append(f"{name}: {was} -> {now}")
    return sorted(found)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Report what got slower between two files of results.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--slower", type=float, default=25.0, metavar="PERCENT", help="least slowdown to report (default 25)"
    )
    parser.add_argument("--ratios", action="store_true", help="compare ratios to the peer instead of times")
    options = parser.parse_args(argv)
    old, new = load(options.old), load(options.new)
    changes, alone = compare(old, new, ratios=options.ratios)
    limit = 1 + options.slower / 100
    worse = [change for change in changes if change.factor > limit]
    better = [change for change in changes[::-1] if change.factor < 1 / limit]
    for heading, listed in (("worse", worse), ("better", better)):
        print(f"{heading} by more than {options.slower:g} %: {len(listed)} of {len(changes)}")
        for change in listed:
            print(f"  {change.what}: {amount(change, old=True)} -> {amount(change)}  ({change.factor - 1:+.0%})")
    for what in alone:
        print(f"in one file only: {what}")
    for what in differences(old, new):
        print(f"differs: {what}")
    return 1 if worse else 0


def amount(change: Change, *, old: bool = False) -> str:
    value = change.old if old else change.new
    return f"{value / 1e6:.0f} MB" if change.what.endswith("memory") else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
