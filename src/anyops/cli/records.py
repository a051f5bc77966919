"""Detections in COCO's result format (JSON) and as CSV: read, checked, and written back to the character.

What is not dropped must come out as it went in: unknown fields, the digits of every number, quoting, layout. So records
are kept as the pieces of text they were read from, beside the few numbers that NMS needs. Where a score or a box is a
new one, it alone is replaced in that text. Only fused records, which are no record of the input, are written anew.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import CommandError
from .files import Format

BOM = "\ufeff"  # some editors begin a file with it
_SPACE = re.compile(r"[ \t\r\n]*")
_SIDES = ("x", "y", "w", "h")
_BBOX = "4 numbers [x, y, w, h]"


@dataclass
class Detections:
    """A file of detections: its text in pieces, and what NMS needs to know of each record.

    Attributes
    ----------
    records
        The text of each record.
    head, separator, tail
        The text before, between and after the records.
    image_ids, category_ids
        As read: 7 and "7" are different ids in JSON; in CSV all ids are text.
    boxes
        Left, top, width and height of each record, one after the other.
    scores
        One number for each record.
    models
        Name of the model of each record, if a field was said to hold it.
    columns
        What the columns of CSV are.
    """

    head: str = ""
    separator: str = ""
    tail: str = ""
    records: list[str] = field(default_factory=list)
    image_ids: list[int | str] = field(default_factory=list)
    category_ids: list[int | str] = field(default_factory=list)
    boxes: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    columns: "_Columns | None" = None

    def xywh(self) -> NDArray[np.float64]:
        """Boxes as an (N, 4) array."""
        return np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)

    def text(self, indices: Iterable[int]) -> str:
        """Text of a file with these records alone."""
        return self.head + self.separator.join([self.records[i] for i in indices]) + self.tail

    def replace(self, index: int, *, score: float | None = None, bbox: list[float] | None = None) -> None:
        """Put new numbers into the text of a record."""
        text = self.records[index]
        edits = _json_edits if self.columns is None else self.columns.edits
        for place, new in sorted(edits(text, score, bbox), key=lambda edit: -edit[0].start):
            text = text[: place.start] + new + text[place.stop :]
        self.records[index] = text


class FusedRecord(NamedTuple):
    """A record that was none of the input."""

    image_id: int | str
    category_id: int | str
    bbox: list[float]
    score: float


def fused_text(fused: Iterable[FusedRecord], form: Format, like: Detections) -> str:
    """Text of a file of fused records; in CSV the box has one column if that of `like` has one, else four."""
    if form is Format.JSON:
        return "[" + ",".join("\n" + json.dumps(record._asdict()) for record in fused) + "\n]\n"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    one_column = like.columns is not None and like.columns.bbox is not None
    writer.writerow(["image_id", "category_id", *(["bbox"] if one_column else _SIDES), "score"])
    for record in fused:
        box = [json.dumps(record.bbox)] if one_column else record.bbox
        writer.writerow([record.image_id, record.category_id, *box, record.score])
    return text.getvalue()


def joined(parts: Iterable[Detections]) -> Detections:
    """Return the numbers of all parts as one, without their text, of which the layout of the first alone is known."""
    first, *others = parts
    all_of = Detections(columns=first.columns)
    for part in (first, *others):
        all_of.image_ids += part.image_ids
        all_of.category_ids += part.category_ids
        all_of.boxes += part.boxes
        all_of.scores += part.scores
    return all_of


def parse(text: str, form: Format, *, model_field: str | None = None) -> Detections:
    """Read detections from the text of a file; the field or column that names their model only if it is given.

    Raises
    ------
    CommandError
        If the text is malformed; the message names the record and the field, what was expected and what came.
    """
    return (_parse_json if form is Format.JSON else _parse_csv)(text, model_field)


# JSON


def _parse_json(text: str, model_field: str | None) -> Detections:
    detections = Detections()
    start = end = _start_of_list(text)
    for index, (record, span) in enumerate(_json_items(text, start)):
        where = f"record {index} (counted from 0)"
        if type(record) is not dict:
            raise CommandError(f"{where}: expected an object, got {shown(record)}")
        detections.image_ids.append(json_id(record, "image_id", where))
        detections.category_ids.append(json_id(record, "category_id", where))
        detections.boxes.extend(box_of(member(record, "bbox", where), where))
        detections.scores.append(number(member(record, "score", where), "score", where))
        if model_field is not None:
            detections.models.append(str(json_id(record, model_field, where)))
        detections.records.append(text[span])
        if index == 0:
            detections.head = text[: span.start]
        elif index == 1:  # one separator for all: files mix no two layouts
            detections.separator = text[end : span.start]
        end = span.stop
    if not detections.records:
        detections.head, end = text[:start], start
    detections.tail = text[end:]
    return detections


def _start_of_list(text: str) -> int:
    """Position after the opening bracket."""
    start = skip_space(text, len(BOM) if text.startswith(BOM) else 0)
    if text.startswith("[", start):
        return start + 1
    value, _ = json_value(text, start, "")
    raise CommandError(f"expected a JSON list of detections, got {shown(value)}")


def _json_items(text: str, position: int) -> Iterator[tuple[Any, slice]]:
    """Yield each value of a JSON list with its place in the text, and check what stands after the list."""
    position = skip_space(text, position)
    index = 0
    closed = text.startswith("]", position)
    while not closed:
        where = f"record {index} (counted from 0): "
        value, end = json_value(text, position, where)
        yield value, slice(position, end)
        position = skip_space(text, end)
        closed = text.startswith("]", position)
        if not closed:
            if not text.startswith(",", position):
                raise CommandError(f"after {where}" + json_fault("expected a comma or ]", text, position))
            position = skip_space(text, position + 1)
            index += 1
    position = skip_space(text, position + 1)
    if position < len(text):
        raise CommandError(json_fault("expected nothing after the list", text, position))


_decode = json.JSONDecoder().raw_decode


def json_value(text: str, position: int, where: str) -> tuple[Any, int]:
    """Read the value at a position of JSON text; return where it ends, too."""
    try:
        return _decode(text, position)
    except json.JSONDecodeError as error:
        raise CommandError(where + json_fault(error.msg, text, error.pos)) from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets thousands deep
        raise CommandError(where + json_fault(str(error), text, position)) from None


def json_fault(message: str, text: str, position: int) -> str:
    """Say what is wrong with JSON text, and in which line and column."""
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"not valid JSON: {message} at line {line}, column {column}"


def skip_space(text: str, position: int) -> int:
    """Position of what stands after white space."""
    match = _SPACE.match(text, position)
    assert match is not None  # the pattern matches no characters too
    return match.end()


def member(record: dict[str, Any], name: str, where: str) -> Any:
    """Return a field that a record must have."""
    try:
        return record[name]
    except KeyError:
        raise CommandError(f"{where}: {name}: is missing") from None


def json_id(record: dict[str, Any], name: str, where: str) -> int | str:
    """Return a field that must be an id."""
    value = member(record, name, where)
    if type(value) is int or type(value) is str:
        return value
    raise CommandError(f"{where}: {name}: expected an integer or a string, got {shown(value)}")


Edits = list[tuple[slice, str]]
"""Places in the text of a record, and what goes there."""


def _json_edits(record: str, score: float | None, bbox: list[float] | None) -> Edits:
    places: dict[str, slice] = {}  # of a name that is there twice, the last value counts
    position = skip_space(record, 1)
    while record[position] != "}":
        name, position = _decode(record, position)
        start = skip_space(record, skip_space(record, position) + 1)
        _, stop = _decode(record, start)
        places[name] = slice(start, stop)
        position = skip_space(record, stop)
        if record[position] == ",":
            position = skip_space(record, position + 1)
    return [(places[name], json.dumps(new)) for name, new in (("score", score), ("bbox", bbox)) if new is not None]


# CSV


def _parse_csv(text: str, model_field: str | None) -> Detections:
    rows = _csv_rows(text.removeprefix(BOM))
    _, header, head = next(rows)
    columns = _Columns.of([name.strip() for name in header], model_field)
    detections = Detections(head=BOM + head if text.startswith(BOM) else head, columns=columns)
    for line, cells, raw in rows:
        where = f"line {line}"
        if len(cells) != len(header):
            raise CommandError(f"{where}: expected {len(header)} cells as in the header, got {len(cells)}")
        detections.image_ids.append(_csv_id(cells[columns.image_id], "image_id", where))
        detections.category_ids.append(_csv_id(cells[columns.category_id], "category_id", where))
        if columns.bbox is not None:
            detections.boxes.extend(box_of(_csv_list(cells[columns.bbox]), where))
        else:
            numbers = [_csv_number(cells[i], name, where) for i, name in zip(columns.sides, _SIDES, strict=True)]
            detections.boxes.extend(_checked_sides(numbers, _SIDES, where))
        detections.scores.append(_csv_number(cells[columns.score], "score", where))
        if columns.model is not None:
            detections.models.append(_csv_id(cells[columns.model], header[columns.model].strip(), where))
        detections.records.append(raw)
    return detections


def _csv_rows(text: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield the number of a row's first line, its cells and its text; blank lines are passed over."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, strict=True)
    # A column may hold a mask of any length; csv's limit is of the process, so it is put back.
    limit = csv.field_size_limit(max(len(text), 1))
    start = 0
    try:
        for cells in reader:
            if cells:
                yield start + 1, cells, "".join(lines[start : reader.line_num])
            start = reader.line_num
    except csv.Error as error:
        raise CommandError(f"line {start + 1}: not valid CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)


_CELL = re.compile(r'"(?:[^"]|"")*"|[^,\r\n]*')


def _csv_cells(row: str) -> list[slice]:
    """Places of the cells of a row that has been found to be valid."""
    places = []
    position = -1
    while position < 0 or row.startswith(",", position):
        match = _CELL.match(row, position + 1)
        assert match is not None  # the pattern matches no characters too
        places.append(slice(*match.span()))
        position = match.end()
    return places


@dataclass(frozen=True)
class _Columns:
    """Positions of the columns; the box is one column ``bbox``, or four where ``bbox`` is None."""

    image_id: int
    category_id: int
    score: int
    bbox: int | None
    sides: tuple[int, ...]
    model: int | None

    def edits(self, record: str, score: float | None, bbox: list[float] | None) -> Edits:
        """Tell where new numbers go."""
        cells = _csv_cells(record)
        edits = [] if score is None else [(cells[self.score], repr(score))]
        if bbox is not None and self.bbox is not None:
            edits.append((cells[self.bbox], f'"{json.dumps(bbox)}"'))
        elif bbox is not None:
            edits += [(cells[i], repr(side)) for i, side in zip(self.sides, bbox, strict=True)]
        return edits

    @classmethod
    def of(cls, header: list[str], model_field: str | None) -> "_Columns":
        has_box = "bbox" in header and not all(name in header for name in _SIDES)
        needed = ["image_id", "category_id", "score", *(["bbox"] if has_box else _SIDES)]
        if model_field is not None:
            needed.append(model_field)
        for name in needed:
            if header.count(name) != 1:
                fault = "is there twice" if name in header else "is missing"
                expected = _EXPECTED_HEADER + (f" and {model_field}" if model_field else "")
                raise CommandError(f"line 1: column {name} {fault}; {expected}, got {_cut(','.join(header))}")
        at = header.index
        box = at("bbox") if has_box else None
        sides = () if has_box else tuple(at(name) for name in _SIDES)
        model = None if model_field is None else at(model_field)
        return cls(at("image_id"), at("category_id"), at("score"), box, sides, model)


_EXPECTED_HEADER = "expected image_id, category_id, score and x, y, w, h (or bbox)"


def _csv_id(cell: str, name: str, where: str) -> str:
    if value := cell.strip():
        return value
    raise CommandError(f"{where}: {name}: expected an id, got an empty cell")


def _csv_number(cell: str, name: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    # Python reads 1_000 as a number; nothing else that reads CSV does.
    if math.isfinite(value) and "_" not in cell:
        return value
    raise CommandError(f"{where}: {name}: expected a finite number, got {shown(cell)}")


def _csv_list(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell  # which is no list, and is reported as such


# Both


def box_of(value: Any, where: str) -> list[float]:
    """Return left, top, width and height, the latter two of 0 or more."""
    if type(value) is not list or len(value) != 4:
        raise CommandError(f"{where}: bbox: expected {_BBOX}, got {shown(value)}")
    return _checked_sides([number(side, "bbox", where) for side in value], ("bbox",) * 4, where)


def _checked_sides(box: list[float], names: tuple[str, ...], where: str) -> list[float]:
    if box[2] < 0:
        raise CommandError(f"{where}: {names[2]}: expected a width of 0 or more, got {box[2]!r}")
    if box[3] < 0:
        raise CommandError(f"{where}: {names[3]}: expected a height of 0 or more, got {box[3]!r}")
    return box


def number(value: Any, name: str, where: str) -> float:
    """Return a finite number as a float."""
    if type(value) is float or type(value) is int:  # not bool, which is an int to isinstance
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if math.isfinite(result):
            return result
    raise CommandError(f"{where}: {name}: expected a finite number, got {shown(value)}")


def shown(value: Any) -> str:
    """Describe a value in a message, briefly however large it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
