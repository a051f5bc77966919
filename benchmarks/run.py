"""Compare anyops with its peers, in one process and one run.

    python benchmarks/run.py                      everything; writes benchmarks/results/cpu.json
    python benchmarks/run.py --quick              the small cases, briefly; writes benchmarks/results/quick.json
    python benchmarks/run.py --only 'aerial*'     some cases (also: memory, counts); writes quick.json
    python benchmarks/run.py --groups busy,mask --update    some groups, in their places in cpu.json

Results are compared before anything is timed. Exit status 1: anyops failed or disagreed with the reference.
A missed target is reported, not an error.
"""

from __future__ import annotations

import argparse
import itertools
import operator
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cases import (
    BATCHED_NMS,
    CASES,
    EXPONENT_SIZES,
    EXPONENT_TARGET,
    IOU_THRESHOLD,
    MEMORY_SCENES,
    MEMORY_TARGET,
    QUICK_MEMORY_SCENES,
    Case,
    growth,
    matches,
    select,
)
from contenders import CONTENDERS, Contender, answer, reference_order, torchvision_by_class
from counts import counts, print_counts, python_calls, torch_operations
from memory import peak_in_fresh_process
from results import PARTIAL, PUBLISHED, ROOT, SCHEMA, environment, load, merged, require_same, save, seconds_of_others
from text import duration
from timing import Entrant, busy_neighbour, measure, timed

BUDGET, QUICK_BUDGET = 8.0, 0.5  # seconds of sampling per case
MEMORY, COUNTS = "memory", "counts"  # groups that are not cases
LARGEST_COUNTED = 1_000  # n up to which torch operations are counted: a dispatch mode prevents tiling
BUSY = 0.1  # cores used by others above which the numbers are doubtful
MEMORY_CONTENDERS = {"anyops numpy": None, "anyops torch": None, "anyops jax": None, "torchvision": 100_000}  # up to n

QUIET = "itself, quiet"  # the peer on a busy machine

Answer = np.ndarray[Any, Any]


@dataclass
class Checked:
    """A contender whose answers to the problems of a case are known."""

    contender: Contender
    entrant: Entrant
    answers: list[Answer]
    record: dict[str, Any]


# --- one case --------------------------------------------------------------------------------------------------------


def run_case(case: Case, contenders: Iterable[Contender], budget: float) -> dict[str, Any]:
    """Check, time and judge the contenders of a case."""
    problems = case.problems()
    records: dict[str, dict[str, Any]] = {}
    taking_part: list[Checked] = []
    for contender in contenders:
        checked = records[contender.name] = {}
        try:
            taking_part.append(ask(contender, case, problems, checked))
        except Exception as error:  # one broken contender must not cost the others their numbers
            traceback.print_exc()
            checked["failed"] = describe(error)
    result: dict[str, Any] = {"name": case.name, "group": case.group, "operation": case.operation, "n": case.n}
    if case.curve:
        result["curve"] = case.curve
    if taking_part:
        comparable = [each for each in taking_part if each.contender.compared]
        # A peer if there is one, else one of ours, whatever the order of the list.
        reference = next((each for each in comparable if not each.contender.ours), (comparable or taking_part)[0])
        result["reference"] = reference.contender.name
        if not case.numeric:
            result["kept"] = len(reference.answers[0])
        agreeing = [each for each in taking_part if agrees(each, reference, case)]
        entrants = [each.entrant for each in agreeing]
        measure(entrants, budget)
        if case.busy:
            for each in agreeing:
                each.record["quiet"] = each.entrant.summary()["seconds"]
                each.entrant.samples.clear()
            with busy_neighbour():
                measure(entrants, budget)
        for each in agreeing:
            each.record.update(each.entrant.summary())
            if each.contender.ours:
                each.record.update(effort(each, case))
        judge(case, result, records)
    result["results"] = records
    return result


def ask(contender: Contender, case: Case, problems: list[Any], record: dict[str, Any]) -> Checked:
    """Call once for each problem. The first call is timed: if it is very slow, it counts as a sample."""
    if contender.note:
        record["note"] = contender.note
    calls = [contender.operations[case.operation](problem) for problem in problems]
    first, result = timed(calls[0])
    results = itertools.chain([result], (call() for call in calls[1:]))
    answers = [np.empty(0)] * len(problems)
    if contender.compared:
        answers = [answer(found, case, problem) for found, problem in zip(results, problems, strict=True)]
    if contender.name == "torchvision" and case.operation == BATCHED_NMS:
        answers = [torchvision_by_class(problem) for problem in problems]
    if contender.name == "torchvision" and not case.numeric:
        answers = [reference_order(found, case, problem) for found, problem in zip(answers, problems, strict=True)]
    turns = calls[0] if len(calls) == 1 else map(operator.call, itertools.cycle(calls)).__next__
    return Checked(contender, Entrant(turns, first, contender.compiles or case.compiled), answers, record)


def effort(each: Checked, case: Case) -> dict[str, int]:
    """The work of a call, counted without a clock."""
    found = {"calls": python_calls(each.entrant.call)}
    if each.contender.name == "anyops torch" and case.n <= LARGEST_COUNTED:
        found |= torch_operations(each.entrant.call)
    return found


def agrees(each: Checked, reference: Checked, case: Case) -> bool:
    """Compare with the reference; record the differences of a peer, fail ours on any difference."""
    if not each.contender.compared:
        return True
    pairs = list(zip(each.answers, reference.answers, strict=True))
    if case.numeric:
        if wrong := next(((found, wanted) for found, wanted in pairs if found.shape != wanted.shape), None):
            each.record["failed"] = f"shape {wrong[0].shape} against {wrong[1].shape}"
            return False
        difference = float(np.max([np.max(np.abs(found - wanted), initial=0) for found, wanted in pairs]))
        each.record["largest_difference"] = difference
        same = bool(difference < case.tolerance)  # NaN does not agree
    else:
        if each.contender.name == "supervision":
            pairs = [(found, np.sort(wanted)) for found, wanted in pairs]
        same = all(np.array_equal(found, wanted) for found, wanted in pairs)
        each.record["kept"] = len(pairs[0][0])
        each.record["common"] = len(np.intersect1d(*pairs[0]))
    each.record["identical"] = same
    if each.contender.ours and not same:
        each.record["failed"] = f"differs from {reference.contender.name}"
        return False
    return True


def judge(case: Case, result: dict[str, Any], records: dict[str, dict[str, Any]]) -> None:
    """Ratios to the peer: the case's own peers if it names them, else torchvision, or for numbers the fastest.

    On a busy machine, the peer of each contender is its own quiet time.
    """
    ours = {each.name for each in CONTENDERS if each.ours}
    peers = {name: record["seconds"] for name, record in records.items() if name not in ours and "seconds" in record}
    if not case.numeric and not case.against:
        peers = {name: seconds for name, seconds in peers.items() if name == "torchvision"}
    if not peers and not case.busy:
        return
    compared = {each.name for each in CONTENDERS if each.compared}
    fastest = min(peers.keys() & compared or peers, key=lambda name: peers[name], default=None)
    result["peer"] = QUIET if case.busy else ", ".join(dict.fromkeys(case.against.values())) or fastest
    for name in ours & records.keys():
        record = records[name]
        target = case.targets.get(name)
        beside = record.get("quiet") if case.busy else peers.get(case.against.get(name, fastest))
        if "seconds" in record and beside is not None:
            record["ratio"] = beside / record["seconds"]
        if target is not None:
            record["target"] = target
            record["met"] = record.get("ratio", 0.0) >= target


def describe(error: Exception) -> str:
    """Describe an error in one line, without folders of this machine."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}".replace(str(ROOT), ".").replace(str(Path.home()), "~")[:200]


# --- growth and memory -----------------------------------------------------------------------------------------------


def curves(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Time against n for every curve and contender, and how fast it grows from 10 000 boxes on."""
    found: dict[str, dict[str, Any]] = {}
    for result in sorted(results, key=lambda result: result["n"]):
        for name, record in result["results"].items():
            if "curve" in result and "seconds" in record:
                points = found.setdefault(result["curve"], {}).setdefault(name, {"sizes": [], "seconds": []})
                points["sizes"].append(result["n"])
                points["seconds"].append(record["seconds"])
    for curve, by_name in found.items():
        for name, points in by_name.items():
            large = [at for at in zip(points["sizes"], points["seconds"], strict=True) if at[0] >= EXPONENT_SIZES[0]]
            if len(large) < 2:
                continue
            points.update(growth([size for size, _ in large], [seconds for _, seconds in large]))
            if curve == "aerial" and name == "anyops numpy" and (large[0][0], large[-1][0]) == EXPONENT_SIZES:
                points.update(target=EXPONENT_TARGET, met=points["exponent"] <= EXPONENT_TARGET)
    return found


def memory(contenders: list[Contender], *, quick: bool) -> list[dict[str, Any]]:
    """Peak memory on scenes of growing size, each in its own process."""
    chosen = MEMORY_CONTENDERS.keys() & {each.name for each in contenders}
    scenes = QUICK_MEMORY_SCENES if quick else MEMORY_SCENES
    found = []
    for (scene, n), (name, most) in itertools.product(scenes.items(), MEMORY_CONTENDERS.items()):
        if name not in chosen or (most is not None and n > most):
            continue
        record: dict[str, Any] = {"scene": scene, "contender": name}
        try:
            record.update(peak_in_fresh_process(n, name))
            if scene == "aerial-1M" and name == "anyops numpy":
                record.update(target=MEMORY_TARGET, met=record["peak"] < MEMORY_TARGET)
        except Exception as error:
            traceback.print_exc()
            record["failed"] = describe(error)
        found.append(record)
    return found


# --- output ----------------------------------------------------------------------------------------------------------

COLUMNS = ("case", "contender", "median", "quartiles", "calls", "ratio", "target", "", "kept", "against the reference")
WIDTHS = (28, 15, 10, 21, 6, 8, 8, 6, 7, 0)


def row(*cells: str) -> None:
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip(), flush=True)


def print_case(result: dict[str, Any]) -> None:
    for name, record in result["results"].items():
        timed_cells = ("–", "", "")
        if "seconds" in record:
            quartiles = f"{duration(record['low'])} – {duration(record['high'])}"
            timed_cells = (duration(record["seconds"]), quartiles, str(record["repetitions"]))
        row(
            result["name"],
            name,
            *timed_cells,
            f"{record['ratio']:.3g}x" if "ratio" in record else "",
            f">= {record['target']:g}" if "target" in record else "",
            verdict(record),
            str(record.get("kept", "")),
            record.get("failed") or agreement(record, reference=name == result.get("reference")),
        )


def agreement(record: dict[str, Any], *, reference: bool) -> str:
    if reference:
        return "(reference)"
    if "largest_difference" in record:
        return f"largest difference {record['largest_difference']:.1e}"
    if "identical" not in record:
        return "not compared"
    if record["identical"]:
        return "identical"
    return f"differs: {record['common']} kept by both"


def verdict(record: dict[str, Any]) -> str:
    return {True: "met", False: "MISSED", None: ""}[record.get("met")]


def print_growth(found: dict[str, dict[str, Any]]) -> None:
    for curve, by_name in found.items():
        for name, points in by_name.items():
            if "exponent" in points:
                target = f" (target <= {points['target']:g}: {verdict(points)})" if "target" in points else ""
                sizes = [size for size in points["sizes"] if size >= EXPONENT_SIZES[0]]
                print(
                    f"{curve}: {name} grows as n^{points['exponent']:.2f} from {sizes[0]:,} to {sizes[-1]:,}{target};"
                    f" steepest step n^{points['steepest']:.2f}"
                )


def print_memory(found: list[dict[str, Any]]) -> None:
    for record in found:
        if "failed" in record:
            print(f"memory: {record['scene']}, {record['contender']}: {record['failed']}")
            continue
        target = f" (target < {record['target'] / 1e9:g} GB: {verdict(record)})" if "target" in record else ""
        print(
            f"memory: {record['scene']}, {record['contender']}: peak {record['peak'] / 1e9:.2f} GB{target},"
            f" {record['extra'] / 1e9:.2f} GB of it by the call ({record['method']})"
        )


# --- the command -----------------------------------------------------------------------------------------------------


def threads() -> dict[str, int | str | None]:
    """The number of threads of libraries that have a setting for it; the setting is not changed."""
    settings: dict[str, Callable[[], int]] = {}
    try:
        import torch

        settings["torch"] = torch.get_num_threads
    except ImportError:
        pass
    try:
        import cv2

        settings["opencv"] = cv2.getNumThreads
    except ImportError:
        pass
    openmp = os.environ.get("OMP_NUM_THREADS")
    return {**{name: get() for name, get in settings.items()}, "OMP_NUM_THREADS": openmp}


def cores_used_by_others(start: float, before: float | None) -> float | None:
    """The mean since `start`; a threaded call can take 100 times as long when one of its two cores is busy."""
    after = seconds_of_others()
    if before is None or after is None:
        return None
    used = round(max(after - before, 0.0) / (time.perf_counter() - start), 2)
    if used > BUSY:
        print(f"WARNING: others used {used} cores meanwhile; do not publish this, especially not threaded calls")
    return used


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run anyops beside its peers.")
    parser.add_argument("--quick", action="store_true", help="small cases only, half a second each")
    parser.add_argument("--only", metavar="PATTERN", help="cases whose name contains or matches this; memory, counts")
    parser.add_argument("--groups", metavar="NAMES", help="comma-separated groups of cases; memory, counts")
    parser.add_argument(
        "--update", action="store_true", help="replace the cases of --only or --groups in results/cpu.json"
    )
    parser.add_argument("--contenders", metavar="NAMES", help="comma-separated, parts of names: numpy,torchvision")
    parser.add_argument("--slow", action="store_true", help="slow peers on larger scenes too")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help=f"sampling time per case (default {BUDGET:g})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: results/cpu.json, or results/quick.json")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    options = parser.parse_args(argv)
    if options.update and (options.quick or options.contenders):
        parser.error("--update replaces whole cases, so it does not work with --quick or --contenders")
    if options.update and not (options.groups or options.only):
        parser.error("--update needs --groups or --only")
    if options.groups is not None:
        options.groups = {name.strip() for name in options.groups.split(",")}
        known = {*(case.group for case in CASES), MEMORY, COUNTS}
        if unknown := options.groups - known:
            parser.error(f"--groups: expected some of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}")
    return options


def chosen_contenders(names: str | None) -> list[Contender]:
    if names is None:
        return list(CONTENDERS)
    return [each for each in CONTENDERS if any(part.strip() in each.name for part in names.split(","))]


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if options.list:
        for case in CASES:
            print(f"{case.name:48} {case.group:12} {case.operation:28} n = {case.n:,}")
        return 0
    partial = bool(options.quick or options.only or options.groups or options.contenders)
    output = options.output or (PUBLISHED if options.update or not partial else PARTIAL)
    budget = options.budget or (QUICK_BUDGET if options.quick else BUDGET)
    contenders = chosen_contenders(options.contenders)
    chosen = select(options.only, groups=options.groups, quick=options.quick)
    besides = [
        name
        for name in (MEMORY, COUNTS)
        if matches(name, options.only) and (options.groups is None or name in options.groups)
    ]
    if not chosen and not besides:
        raise SystemExit(f"no case matches {options.only!r}; --list names them")

    data: dict[str, Any] = {"schema": SCHEMA, "partial": partial, **environment()}
    data["settings"] = {"iou_threshold": IOU_THRESHOLD, "dtype": "float32", "budget": budget, "threads": threads()}
    print(f"{data['machine']['cpu']}, {data['machine']['cores']} cores, threads: {data['settings']['threads']}")
    print(", ".join(f"{name} {version}" for name, version in data["versions"].items()), end="\n\n")
    old = load(output) if options.update else None
    if old is not None:
        require_same(old, data)
    start, others = time.perf_counter(), seconds_of_others()
    row(*COLUMNS)
    data["cases"] = []
    for case in chosen:
        taking_part = [each for each in contenders if each.takes(case, slow=options.slow)]
        data["cases"].append(run_case(case, taking_part, budget * case.share))
        print_case(data["cases"][-1])
    data["curves"] = curves(data["cases"])
    print_growth(data["curves"])
    data["memory"] = memory(contenders, quick=options.quick) if MEMORY in besides else []
    print_memory(data["memory"])
    data["counts"] = counts() if COUNTS in besides else []
    print_counts(data["counts"])
    data["machine"]["cores_used_by_others"] = cores_used_by_others(start, others)
    written = data
    if old is not None:
        written = merged(old, data, [case.name for case in CASES])
        written["curves"] = curves(written["cases"])
    save(output, written)
    print(f"wrote {os.path.relpath(output)}")
    return 1 if report_failures(data) else 0


def report_failures(data: dict[str, Any]) -> bool:
    """Print where ours failed or disagreed, and which targets were missed; return True on failures."""
    ours = {each.name for each in CONTENDERS if each.ours}
    records = [(case["name"], name, record) for case in data["cases"] for name, record in case["results"].items()]
    records += [("memory", record["contender"], record) for record in data["memory"]]
    missed = [f"{case} {name}" for case, name, record in records if record.get("met") is False]
    failed = [f"{case} {name}" for case, name, record in records if "failed" in record and name in ours]
    print(f"targets missed: {', '.join(missed) or 'none'}")
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
