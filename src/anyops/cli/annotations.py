"""COCO annotations: the sizes of annotated boxes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import CommandError
from .records import BOM, box_of, json_fault, json_id, json_value, member, number, shown, skip_space


class Sizes(NamedTuple):
    """Widths and heights of boxes (n, 2), and how many boxes were ignored for each reason."""

    wh: NDArray[np.float64]
    crowds: int
    flat: int
    other_categories: int


def parse_sizes(text: str, categories: Sequence[str], size: int | None) -> Sizes:
    """Read the sizes of boxes of the given categories, or of all if none is given, scaled to images of `size`.

    Raises
    ------
    CommandError
        If the text is malformed; the message names the record and the field, what was expected and what came.
    """
    contents = _contents(text)
    wanted = _category_ids(contents, categories) if categories else None
    scales = None if size is None else _scales(contents, size)
    sides: list[float] = []
    crowds = flat = others = 0
    for where, record in _records(contents, "annotations"):
        category = json_id(record, "category_id", where) if wanted is not None else None
        _, _, w, h = box_of(member(record, "bbox", where), where)
        crowd = _is_crowd(record, where)
        scale = 1.0
        if scales is not None:
            image = json_id(record, "image_id", where)
            if image not in scales:
                raise CommandError(f"{where}: image_id: expected the id of one of the images, got {shown(image)}")
            scale = scales[image]
        if wanted is not None and category not in wanted:
            others += 1
        elif crowd:
            crowds += 1
        elif not (w > 0 and h > 0):
            flat += 1
        else:
            scaled = [w * scale, h * scale]
            # A side may overflow, or underflow and leave a box without area.
            if not all(0 < side < math.inf for side in scaled):
                raise CommandError(
                    f"{where}: bbox: expected sides that a float can hold when scaled by {scale:g}, got {w:g} and {h:g}"
                )
            sides += scaled
    return Sizes(np.asarray(sides, dtype=np.float64).reshape(-1, 2), crowds, flat, others)


def _is_crowd(record: dict[str, Any], where: str) -> bool:
    value = record.get("iscrowd", 0)
    if type(value) not in (int, bool) or value not in (0, 1):
        raise CommandError(f"{where}: iscrowd: expected 0, 1, true or false, got {shown(value)}")
    return bool(value)


def _contents(text: str) -> dict[str, Any]:
    start = skip_space(text, len(BOM) if text.startswith(BOM) else 0)
    contents, end = json_value(text, start, "")
    end = skip_space(text, end)
    if end < len(text):
        raise CommandError(json_fault("expected nothing after the object", text, end))
    if type(contents) is not dict:
        raise CommandError(f"expected COCO annotations, an object with a list of annotations, got {shown(contents)}")
    return contents


def _records(contents: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    """The records of a list, each with its name in messages."""
    if name not in contents:
        raise CommandError(f"{name}: is missing; expected COCO annotations, an object with a list of {name}")
    if type(contents[name]) is not list:
        raise CommandError(f"{name}: expected a list, got {shown(contents[name])}")
    records = [(f"{name}[{index}]", record) for index, record in enumerate(contents[name])]
    for where, record in records:
        if type(record) is not dict:
            raise CommandError(f"{where}: expected an object, got {shown(record)}")
    return records


def _category_ids(contents: dict[str, Any], categories: Sequence[str]) -> set[int | str]:
    """The ids of categories that are given by name or id."""
    named: dict[str, set[int | str]] = {}
    for where, record in _records(contents, "categories"):
        identity = json_id(record, "id", where)
        for name in {str(identity), str(record.get("name", identity))}:
            named.setdefault(name, set()).add(identity)
    for category in categories:
        if category not in named:
            some = ", ".join(sorted(named)[:20]) + (", …" if len(named) > 20 else "")
            raise CommandError(f"categories: expected one with name or id {category}, got the names and ids {some}")
    return set().union(*(named[category] for category in categories))


def _scales(contents: dict[str, Any], size: int) -> dict[int | str, float]:
    """The factor by which each image is scaled so that its longer side has `size` pixels."""
    scales: dict[int | str, float] = {}
    for where, record in _records(contents, "images"):
        sides = [number(member(record, name, where), name, where) for name in ("width", "height")]
        if not min(sides) > 0:
            raise CommandError(f"{where}: expected a width and a height above 0, got {sides[0]:g} and {sides[1]:g}")
        scale = size / max(sides)
        if scale == math.inf:
            raise CommandError(
                f"{where}: expected a width and a height that can be scaled to {size:g}, "
                f"got {sides[0]:g} and {sides[1]:g}"
            )
        identity = json_id(record, "id", where)
        if identity in scales:
            raise CommandError(f"{where}: id: expected a unique id, got {shown(identity)}")
        scales[identity] = scale
    return scales
