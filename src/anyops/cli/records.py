"""Detections in COCO's result format (JSON) and as CSV: read, checked, and written back without changes.

Kept records must be written unchanged: unknown fields, the digits of every number, quoting, layout. So the text is
stored, with the positions of the records in it, and the few numbers that NMS needs. Only new scores and boxes are
replaced in this text. Only fused records, which match no input record, are new text.
"""

import csv
import gc
import io
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import CommandError
from .files import Format

BOM = "\ufeff"  # some editors begin a file with it
_SPACE = re.compile(r"[ \t\r\n]*")


class Layout(NamedTuple):
    """The numbers of a box in a format: the columns of CSV that hold them, and the indices of width and height."""

    columns: tuple[str, ...]
    sides: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """What a box must be, in messages."""
        return f"{len(self.columns)} numbers [{', '.join(self.columns)}]"


LAYOUTS = {
    "xywh": Layout(("x", "y", "w", "h"), (2, 3)),
    "xyxy": Layout(("x1", "y1", "x2", "y2")),
    "cxcywh": Layout(("cx", "cy", "w", "h"), (2, 3)),
    "cxcywhr": Layout(("cx", "cy", "w", "h", "angle"), (2, 3)),
    "xywhr": Layout(("x", "y", "w", "h", "angle"), (2, 3)),
    "xyxyxyxy": Layout(("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")),
}
COCO = LAYOUTS["xywh"]


AT_ONCE = 512  # records that are checked together: their values stay in cache
WRITTEN = 1 << 14  # records that are written together
Tick = Callable[[float], None]
"""Called with the share of the text that has been read."""


class Ids:
    """Ids, numbered in the order of first appearance; 7 and "7" are different ids in JSON."""

    def __init__(self) -> None:
        self.numbers: dict[int | str, int] = {}
        self._parts: list[NDArray[np.int64]] = []

    def extend(self, ids: Sequence[int | str]) -> None:
        """Add the ids of some records."""
        codes = list(map(self.numbers.get, ids))
        if None in codes:
            number = self.numbers.setdefault
            codes = [number(one, len(self.numbers)) for one in ids]
        self._parts.append(np.asarray(codes, dtype=np.int64))

    def join(self, other: "Ids") -> None:
        """Add the ids of another file."""
        number = self.numbers.setdefault
        of = np.asarray([number(one, len(self.numbers)) for one in other.numbers], dtype=np.int64)
        self._parts.append(of[other.codes()])

    def codes(self) -> NDArray[np.int64]:
        """Return the number of the id of each record."""
        self._parts = [np.concatenate([np.zeros(0, np.int64), *self._parts])]
        return self._parts[0]

    def names(self) -> list[int | str]:
        """Return the ids in the order of their numbers."""
        return list(self.numbers)


@dataclass
class Detections:
    """A file of detections: its text, the positions of its records, and the values that NMS needs.

    Attributes
    ----------
    source
        The text of the file.
    starts, stops
        Where records begin and end.
    head, separator, tail
        The text before, between and after the records.
    images, categories
        The ids of records, as read; in CSV all ids are text.
    boxes
        (N, numbers per box) in the layout: (N, 4) left, top, width and height in COCO files.
    scores
        (N,)
    models
        Name of the model of each record, if a model field was given.
    columns
        The columns of a CSV file.
    """

    source: str = ""
    head: str = ""
    separator: str = ""
    tail: str = ""
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    stops: "array[int]" = field(default_factory=lambda: array("q"))
    images: Ids = field(default_factory=Ids)
    categories: Ids = field(default_factory=Ids)
    boxes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    models: list[str] = field(default_factory=list)
    columns: "_Columns | None" = None
    _changed: dict[int, str] = field(default_factory=dict)

    def record(self, index: int) -> str:
        """Text of a record."""
        return self._changed.get(index) or self.source[self.starts[index] : self.stops[index]]

    def place(self, index: int) -> str:
        """Where a record stands in the file: its line in CSV, its number in JSON."""
        if self.columns is None:
            return f"record {index} (counted from 0)"
        return f"line {len(self.source[: self.starts[index]].splitlines()) + 1}"

    def text(self, indices: Sequence[int]) -> Iterator[str]:
        """Yield the text of a file with these records alone, in pieces."""
        yield self.head
        source, starts, stops = self.source, self.starts, self.stops
        for at in range(0, len(indices), WRITTEN):
            some = indices[at : at + WRITTEN]
            # Usually no record is changed: then a record is a slice, and costs no call.
            each = map(self.record, some) if self._changed else [source[starts[i] : stops[i]] for i in some]
            records = self.separator.join(each)
            yield self.separator + records if at else records
        yield self.tail

    def replace(self, index: int, *, score: float | None = None, bbox: list[float] | None = None) -> None:
        """Put new numbers into the text of a record."""
        text = self.record(index)
        edits = _json_edits if self.columns is None else self.columns.edits
        for place, new in sorted(edits(text, score, bbox), key=lambda edit: -edit[0].start):
            text = text[: place.start] + new + text[place.stop :]
        self._changed[index] = text


class FusedRecord(NamedTuple):
    """A record that is not in the input."""

    image_id: int | str
    category_id: int | str
    bbox: list[float]
    score: float


def fused_text(fused: Iterable[FusedRecord], form: Format, like: Detections) -> str:
    """Text of a file of fused records; in CSV the box has one column if it has one in `like`, else four."""
    if form is Format.JSON:
        return "[" + ",".join("\n" + json.dumps(record._asdict()) for record in fused) + "\n]\n"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    one_column = like.columns is not None and like.columns.bbox is not None
    writer.writerow(["image_id", "category_id", *(["bbox"] if one_column else COCO.columns), "score"])
    for record in fused:
        box = [json.dumps(record.bbox)] if one_column else record.bbox
        writer.writerow([record.image_id, record.category_id, *box, record.score])
    return text.getvalue()


def joined(parts: Iterable[Detections]) -> Detections:
    """Return the numbers of all parts together, without their text, and with the columns of the first."""
    parts = list(parts)
    all_of = Detections(columns=parts[0].columns)
    for part in parts:
        all_of.images.join(part.images)
        all_of.categories.join(part.categories)
    all_of.boxes = np.concatenate([part.boxes for part in parts])
    all_of.scores = np.concatenate([part.scores for part in parts])
    return all_of


def parse(
    text: str,
    form: Format,
    *,
    layout: Layout | None = None,
    model_field: str | None = None,
    tick: Tick | None = None,
) -> Detections:
    """Read detections from the text of a file, with the names of their models if a field or column is given for them.

    The layout is COCO's if none is given; then the columns of CSV must not match a longer one.

    Raises
    ------
    CommandError
        If the text is malformed; the message names the record and the field, what was expected and what came.
    """
    read = _parse_json if form is Format.JSON else _parse_csv
    collects = gc.isenabled()
    gc.disable()  # many values without cycles: garbage collection would take a tenth of the time
    try:
        return read(text, layout, model_field, tick or (lambda share: None))
    finally:
        if collects:
            gc.enable()


class _Checked:
    """Takes the values of records, and checks them in batches: one by one would take five times as long.

    If a batch is not valid, a slower check of each record finds the first fault.
    """

    def __init__(self, detections: Detections, layout: Layout):
        self.detections, self.layout = detections, layout
        self._boxes, self._scores = [np.zeros((0, len(layout.columns)))], [np.zeros(0)]

    def take(
        self, images: Sequence[Any], categories: Sequence[Any], boxes: Any, scores: Any, models: Sequence[Any] | None
    ) -> bool:
        """Take the values of some records; return False, and take none, if one is not valid."""
        for ids in (images, categories, models or ()):
            if not set(map(type, ids)) <= {int, str}:
                return False
        numbers, score = _floats(boxes), _floats(scores)
        if numbers is None or score is None:
            return False
        numbers = numbers.reshape(-1, len(self.layout.columns))
        if any(numbers[:, side].min() < 0 for side in self.layout.sides):
            return False
        self.detections.images.extend(images)
        self.detections.categories.extend(categories)
        self.detections.models.extend(map(str, models or ()))
        self._boxes.append(numbers)
        self._scores.append(score)
        return True

    def done(self) -> Detections:
        """Return the detections with all values."""
        self.detections.boxes, self.detections.scores = np.concatenate(self._boxes), np.concatenate(self._scores)
        return self.detections


def _floats(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return values as finite floats; None if one is not an integer or a float, or not finite."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        found = np.asarray(values, dtype=np.float64)
    except OverflowError:
        return None
    return found if np.isfinite(found).all() else None


def _flat(boxes: Sequence[Any], count: int) -> list[Any] | None:
    """Return the numbers of all boxes in one list; None if a box is not a list of `count` items."""
    if not set(map(type, boxes)) <= {list} or not set(map(len, boxes)) <= {count}:
        return None
    return list(chain.from_iterable(boxes))


# JSON


def _parse_json(text: str, given: Layout | None, model_field: str | None, tick: Tick) -> Detections:
    detections, layout = Detections(text), given or COCO
    checked = _Checked(detections, layout)
    fields = ["image_id", "category_id", "bbox", "score", *([] if model_field is None else [model_field])]
    start, starts, stops = _start_of_list(text), detections.starts, detections.stops
    for records, begins, ends in _json_items(text, start):
        # A duplicate name is an error, because readers differ in the value that they take. It makes more colons than
        # names; little else does. Checking each object takes half as long as reading it.
        span, known = (begins[0], ends[-1]), sum(map(len, records)) if set(map(type, records)) == {dict} else 0
        escaped = text.find("\\u", *span) >= 0  # maybe in a name
        if text.count(":", *span) > known and (
            escaped or any(text.count(f'"{name}"', *span) > len(records) for name in fields)
        ):
            for index, begin in enumerate(begins, len(starts)):
                _check_names(text, begin, fields, f"record {index} (counted from 0): ")
        if not _take_json(checked, records, fields):
            for index, record in enumerate(records, len(starts)):
                _check_json(record, f"record {index} (counted from 0)", layout, model_field)
        starts.extend(begins)
        stops.extend(ends)
        tick(ends[-1] / len(text))
    if len(starts) > 1:  # one separator for all: files do not mix them
        detections.separator = text[stops[0] : starts[1]]
    detections.head, detections.tail = text[: starts[0] if starts else start], text[stops[-1] if stops else start :]
    return checked.done()


def _take_json(checked: _Checked, records: list[Any], fields: list[str]) -> bool:
    """Take the values of some records; return False, and take none, if one is not valid."""
    if not set(map(type, records)) <= {dict}:
        return False
    try:
        images, categories, boxes, scores, *models = [[record[name] for record in records] for name in fields]
    except KeyError:
        return False
    numbers = _flat(boxes, len(checked.layout.columns))
    return numbers is not None and checked.take(images, categories, numbers, scores, models[0] if models else None)


def _check_json(record: Any, where: str, layout: Layout, model_field: str | None) -> None:
    """Raise CommandError unless a record is valid."""
    if type(record) is not dict:
        raise CommandError(f"{where}: expected an object, got {shown(record)}")
    json_id(record, "image_id", where)
    json_id(record, "category_id", where)
    box_of(member(record, "bbox", where), where, layout)
    number(member(record, "score", where), "score", where)
    if model_field is not None:
        json_id(record, model_field, where)


def _check_names(text: str, begin: int, fields: list[str], where: str) -> None:
    """Raise CommandError if a record has a field twice."""
    pairs, _ = _decode_pairs(text, begin)
    names = [pair[0] for pair in pairs if isinstance(pair, tuple)] if isinstance(pairs, list) else []
    for name in fields:
        if names.count(name) > 1:
            raise CommandError(f"{where}{name}: appears twice, in the object at {_place(text, begin)}")


def _start_of_list(text: str) -> int:
    """Position after the opening bracket."""
    start = skip_space(text, len(BOM) if text.startswith(BOM) else 0)
    if text.startswith("[", start):
        return start + 1
    value, _ = json_value(text, start, "")
    kind = "; this is a file of annotations" if isinstance(value, dict) and "annotations" in value else ""
    raise CommandError(f"expected a JSON list of detections, got {shown(value)}{kind}")


def _json_items(text: str, position: int) -> Iterator[tuple[list[Any], list[int], list[int]]]:
    """Yield batches of values of a JSON list, with their positions; raise if anything follows the list."""
    position = skip_space(text, position)
    done, between, step = 0, ",{", 1  # the text between two records, with the brace of the second
    closed = text.startswith("]", position)
    while not closed:
        values: list[Any] = []
        begins: list[int] = []
        ends: list[int] = []
        for _ in range(AT_ONCE):
            try:
                value, end = _scan(text, position)
            except (StopIteration, ValueError, RecursionError):
                if values:  # checked first: one of them may be invalid, too
                    yield values, begins, ends
                value, end = json_value(text, position, f"record {done + len(values)} (counted from 0): ")
            values.append(value)
            begins.append(position)
            ends.append(end)
            if text.startswith(between, end):
                position = end + step
                continue
            # Another separator than before.
            position = skip_space(text, end)
            closed = text.startswith("]", position)
            if closed:
                break
            if not text.startswith(",", position):
                yield values, begins, ends
                where = f"after record {done + len(values) - 1} (counted from 0): "
                raise CommandError(where + json_fault("expected a comma or ]", text, position))
            position = skip_space(text, position + 1)
            between, step = text[end:position] + "{", position - end
        yield values, begins, ends
        done += len(values)
    position = skip_space(text, position + 1)
    if position < len(text):
        raise CommandError(json_fault("expected nothing after the list", text, position))


_decode = json.JSONDecoder().raw_decode
_decode_pairs = json.JSONDecoder(object_pairs_hook=list).raw_decode
_scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]


def json_value(text: str, position: int, where: str) -> tuple[Any, int]:
    """Return the value at a position of JSON text, and the position of its end."""
    try:
        return _decode(text, position)
    except json.JSONDecodeError as error:
        raise CommandError(where + json_fault(error.msg, text, error.pos)) from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets thousands deep
        raise CommandError(where + json_fault(str(error), text, position)) from None


def json_fault(message: str, text: str, position: int) -> str:
    """Describe an error in JSON text, with its line and column."""
    return f"not valid JSON: {message} at {_place(text, position)}"


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}"


def skip_space(text: str, position: int) -> int:
    """Return the position after white space."""
    match = _SPACE.match(text, position)
    assert match is not None  # the pattern also matches an empty string
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
"""Slices of the text of a record, and their replacements."""


def _json_edits(record: str, score: float | None, bbox: list[float] | None) -> Edits:
    places: dict[str, slice] = {}
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


def _parse_csv(text: str, given: Layout | None, model_field: str | None, tick: Tick) -> Detections:
    layout = given or COCO
    rows = _csv_rows(text, len(BOM) if text.startswith(BOM) else 0)
    _, header, _, head = next(rows)
    columns = _Columns.of([name.strip() for name in header], given, model_field)
    detections = Detections(text, head=text[:head], columns=columns)
    checked = _Checked(detections, layout)
    records: list[list[str]] = []
    lines: list[int] = []

    def take() -> None:
        if not _take_csv(checked, records, len(header), columns):
            for line, cells in zip(lines, records, strict=True):
                _check_csv(cells, header, columns, layout, f"line {line}")
        records.clear()
        lines.clear()
        tick(detections.stops[-1] / len(text))

    try:
        for line, cells, begin, stop in rows:
            if len(records) == AT_ONCE:
                take()
            records.append(cells)
            lines.append(line)
            detections.starts.append(begin)
            detections.stops.append(stop)
    finally:  # errors earlier in the file are reported first
        if records:
            take()
    return checked.done()


def _take_csv(checked: _Checked, rows: list[list[str]], width: int, columns: "_Columns") -> bool:
    """Take the values of some rows; return False, and take none, if one is not valid."""
    if not set(map(len, rows)) <= {width}:
        return False
    by_column = list(zip(*rows, strict=True))
    places = (columns.image_id, columns.category_id, *(() if columns.model is None else (columns.model,)))
    images, categories, *models = (list(map(str.strip, by_column[i])) for i in places)
    cells = [by_column[i] for i in (columns.score, *(() if columns.bbox is not None else columns.numbers))]
    # Python reads 1_000 as a number; other readers of CSV do not.
    if not (all(images) and all(categories) and all(map(all, models))) or any("_" in "".join(some) for some in cells):
        return False
    try:
        scores, *numbers = (list(map(float, some)) for some in cells)
    except ValueError:
        return False
    if columns.bbox is None:
        boxes: list[Any] | None = list(chain.from_iterable(zip(*numbers, strict=True)))
    else:
        boxes = _flat(list(map(_csv_list, by_column[columns.bbox])), len(checked.layout.columns))
    return boxes is not None and checked.take(images, categories, boxes, scores, models[0] if models else None)


def _check_csv(cells: list[str], header: list[str], columns: "_Columns", layout: Layout, where: str) -> None:
    """Raise CommandError unless a row is valid."""
    if len(cells) != len(header):
        raise CommandError(f"{where}: expected {len(header)} cells as in the header, got {len(cells)}")
    _csv_id(cells[columns.image_id], "image_id", where)
    _csv_id(cells[columns.category_id], "category_id", where)
    if columns.bbox is not None:
        box_of(_csv_list(cells[columns.bbox]), where, layout)
    else:
        places = zip(columns.numbers, layout.columns, strict=True)
        numbers = [_csv_number(cells[i], name, where) for i, name in places]
        _checked_sides(numbers, layout, layout.columns, where)
    _csv_number(cells[columns.score], "score", where)
    if columns.model is not None:
        _csv_id(cells[columns.model], header[columns.model].strip(), where)


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


def _csv_rows(text: str, start: int) -> Iterator[tuple[int, list[str], int, int]]:
    """Yield the number of a row's first line, its cells, and where it begins and ends; blank lines are skipped."""
    consumed = start

    def lines() -> Iterator[str]:
        nonlocal consumed
        for match in _LINE.finditer(text, start):
            consumed = match.end()
            yield match[0]

    reader = csv.reader(lines(), strict=True)
    # A column may hold a mask of any length; csv's limit is global, so it is restored.
    limit = csv.field_size_limit(max(len(text), 1))
    line, begin = 0, start
    try:
        for cells in reader:
            if cells:
                yield line + 1, cells, begin, consumed
            line, begin = reader.line_num, consumed
    except csv.Error as error:
        raise CommandError(f"line {line + 1}: not valid CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)


_CELL = re.compile(r'"(?:[^"]|"")*"|[^,\r\n]*')


def _csv_cells(row: str) -> list[slice]:
    """Slices of the cells of a valid row."""
    places = []
    position = -1
    while position < 0 or row.startswith(",", position):
        match = _CELL.match(row, position + 1)
        assert match is not None  # the pattern also matches an empty string
        places.append(slice(*match.span()))
        position = match.end()
    return places


@dataclass(frozen=True)
class _Columns:
    """Positions of the columns; the box is one column ``bbox``, or one column per number if ``bbox`` is None."""

    image_id: int
    category_id: int
    score: int
    bbox: int | None
    numbers: tuple[int, ...]
    model: int | None

    def edits(self, record: str, score: float | None, bbox: list[float] | None) -> Edits:
        """Return the replacements for new numbers."""
        cells = _csv_cells(record)
        edits = [] if score is None else [(cells[self.score], repr(score))]
        if bbox is not None and self.bbox is not None:
            edits.append((cells[self.bbox], f'"{json.dumps(bbox)}"'))
        elif bbox is not None:
            edits += [(cells[i], repr(side)) for i, side in zip(self.numbers, bbox, strict=True)]
        return edits

    @classmethod
    def of(cls, header: list[str], given: Layout | None, model_field: str | None) -> "_Columns":
        layout = given or COCO
        has_box = "bbox" in header
        if has_box and all(name in header for name in layout.columns):
            both = f"columns bbox and {', '.join(layout.columns)}"
            raise CommandError(f"line 1: {both}: expected one description of the box, got both; remove one")
        needed = ["image_id", "category_id", "score", *(["bbox"] if has_box else layout.columns)]
        if model_field is not None:
            needed.append(model_field)
        hint = "" if has_box else _hint_of_columns(header, layout)
        for name in needed:
            if header.count(name) != 1:
                fault = "appears twice" if name in header else "is missing"
                expected = f"expected image_id, category_id, score and {', '.join(layout.columns)} (or bbox)"
                expected += f" and {model_field}" if model_field else ""
                raise CommandError(f"line 1: column {name} {fault}; {expected}, got {_cut(','.join(header))}{hint}")
        if hint and given is None:
            part = f"columns {', '.join(layout.columns)} are part of a longer box"
            raise CommandError(f"line 1: {part}; --fmt xywh takes only these{hint}")
        at = header.index
        box = at("bbox") if has_box else None
        numbers = () if has_box else tuple(at(name) for name in layout.columns)
        model = None if model_field is None else at(model_field)
        return cls(at("image_id"), at("category_id"), at("score"), box, numbers, model)


def _hint_of_columns(header: list[str], layout: Layout) -> str:
    """Return a hint of the longest `--fmt` whose columns are in the header; nothing if the layout is as long."""
    found = [fmt for fmt, of in LAYOUTS.items() if set(of.columns) <= set(header)]
    longest = max(found, key=lambda fmt: len(LAYOUTS[fmt].columns), default=None)
    if longest is None or (set(layout.columns) <= set(header) and len(LAYOUTS[longest].columns) == len(layout.columns)):
        return ""
    return f"; --fmt {longest} takes {', '.join(LAYOUTS[longest].columns)}"


def _csv_id(cell: str, name: str, where: str) -> str:
    if value := cell.strip():
        return value
    raise CommandError(f"{where}: {name}: expected an id, got an empty cell")


def _csv_number(cell: str, name: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    # Python reads 1_000 as a number; other readers of CSV do not.
    if math.isfinite(value) and "_" not in cell:
        return value
    raise CommandError(f"{where}: {name}: expected a finite number, got {shown(cell)}")


def _csv_list(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell  # not a list, and reported as such


# Both


def box_of(value: Any, where: str, given: Layout | None = None) -> list[float]:
    """Return the numbers of a box in the given layout, or COCO's; raise if width or height is below 0."""
    layout = given or COCO
    if type(value) is not list or len(value) != len(layout.columns):
        some = type(value) is list and given is not None and len(value) > 4
        others = [fmt for fmt, of in LAYOUTS.items() if some and len(of.columns) == len(value)]
        hint = f"; --fmt {' or '.join(others)} takes {len(value)}" if others else ""
        raise CommandError(f"{where}: bbox: expected {layout.words}, got {shown(value)}{hint}")
    numbers = [number(one, "bbox", where) for one in value]
    return _checked_sides(numbers, layout, ("bbox",) * len(numbers), where)


def _checked_sides(box: list[float], layout: Layout, names: tuple[str, ...], where: str) -> list[float]:
    for place, side in zip(layout.sides, ("width", "height"), strict=False):
        if box[place] < 0:
            raise CommandError(f"{where}: {names[place]}: expected a {side} of 0 or more, got {box[place]!r}")
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
