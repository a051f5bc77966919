"""Generate the tables and plots of docs/performance.md and README.md from the JSON of benchmarks/run.py, and the table
of docs/gpu.md from the JSON of benchmarks/gpu.py.

    python benchmarks/report.py            write them
    python benchmarks/report.py --check    write nothing; exit status 1 if the page or a plot is not up to date

A generated part is between `<!-- begin: generated NAME -->` and `<!-- end -->`; the text around it is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import PUBLISHED, ROOT, load
from text import duration, number

PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
GPU_PAGE, GPU_RESULTS = ROOT / "docs" / "gpu.md", PUBLISHED.with_name("gpu.json")
IMAGES = "images"  # beside the page

BLOCK = re.compile(r"(<!-- begin: generated ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NAMES = {
    "anyops numpy": "anyops, NumPy",
    "anyops torch": "anyops, torch CPU",
    "anyops jax": "anyops, JAX",
    "torchvision": "torchvision",
    "opencv": "OpenCV",
    "opencv, rotated": "OpenCV, rotated",
    "supervision": "supervision",
    "shapely": "shapely",
    "pycocotools": "pycocotools",
    "sequential loop": "NumPy loop",
    "ensemble-boxes": "ensemble-boxes",
    "overlap graph": "overlap graph alone",
    "mask products": "mask products alone",
    "nms_mask": "`nms_mask`, JAX",
    "nms numpy": "`nms`, NumPy",
    "nms torch": "`nms`, torch CPU",
    "nms jax": "`nms`, JAX",
    "scikit-learn": "scikit-learn",
    "elkan": "scikit-learn, elkan",
    "lbfgs": "scikit-learn, lbfgs",
    "newton-cg": "scikit-learn, newton-cg",
    "faiss": "faiss",
    "two products": "two products alone",
    "torch kernel": "torch's kernel",
    "optax": "optax",
    "jnp formula": "jnp formula",
    "numpy formula": "NumPy formula",
    "torch formula": "torch formula",
    "exp, log1p": "exp, log1p",
    "loss alone": "loss alone",
}
DISPATCHED = ("operations", "waits")
OURS = ("anyops numpy", "anyops torch", "anyops jax")
NONE = "–"
CURVES = {
    "aerial": ("Sparse boxes at constant density, nearly all kept", "boxes"),
    "crowd": ("Clustered boxes at constant density, one in ten kept", "boxes"),
    "kmeans": ("k-means, 25 iterations on 16 columns, k = 64", "samples"),
    "logistic": ("Logistic regression on 20 columns, two classes", "samples"),
    "memory": ("Memory of NMS beside its input, sparse boxes", "boxes"),
}
MEMORY = "memory"  # the plot of memory against n
RATIOS = "performance-ratios.png"
# The rows of the speed table in the README: cases and their labels.
SPEED = {
    "clustered-200": "`nms`, 200 boxes in clusters",
    "clustered-1k": "`nms`, 1 000 in clusters",
    "clustered-10k": "`nms`, 10 000 in clusters",
    "spread-10k": "`nms`, 10 000 spread out",
    "clustered-50k": "`nms`, 50 000 in clusters",
    "aerial-100k": "`nms`, 100 000, aerial",
    "classes-50k": "`batched_nms`, 50 000 of 80 classes",
    "images-64x1k": "`batched_nms`, 64 images of 1 000",
    "soft_nms clustered-10k": "`soft_nms`, 10 000 in clusters",
    "weighted_boxes_fusion 5x2k": "`weighted_boxes_fusion`, 5 models of 2 000",
    "iou-2000x2000": "`box_iou`, 2 000 by 2 000",
    "focal-1M-train": "`sigmoid_focal_loss` with gradient, 1M logits",
    "batch-norm-32x64x56x56": "`batch_norm`, 32 × 64 × 56 × 56",
    "kmeans 1M x 16, k = 64": "`kmeans`, 1M × 16, k = 64",
    "kmeans 1M x 2, k = 9": "`kmeans`, 1M × 2, k = 9",
    "kmeans 200k x 64, k = 1000": "`kmeans`, 200k × 64, k = 1000",
    "logistic 1M x 20, float32": "`logistic_regression`, 1M × 20",
    "logistic 100k x 50, ten classes, float32": "`logistic_regression`, 100k × 50, ten classes",
}
FAMILIES = {
    "scenes": "NMS",
    "labelled": "NMS by class",
    "images": "NMS of many images",
    "mask": "NMS in a fixed shape",
    "box_iou": "IoU",
    "family": "other variants",
    "losses": "losses",
    "norm": "batch norm",
    "kmeans": "k-means",
    "logistic": "logistic regression",
    "boxes": "boxes and masks",
    "cluster": "Cluster-NMS and groups",
    "regions": "rotated boxes, polygons, merges, poses",
    "training": "box and class losses, gradient of batch norm",
    "parts": "parts of fits",
}
# A colour-blind-safe palette; ours are solid lines, peers dashed.
STYLE = {
    "anyops numpy": ("#0072b2", "o", "-"),
    "anyops torch": ("#d55e00", "s", "-"),
    "anyops jax": ("#009e73", "^", "-"),
    "torchvision": ("#000000", "D", "--"),
    "opencv": ("#999999", "v", "--"),
    "supervision": ("#cc79a7", "x", "--"),
    "scikit-learn": ("#000000", "P", "--"),
    "faiss": ("#999999", "v", "--"),
    "lbfgs": ("#cc79a7", "x", "--"),
    "newton-cg": ("#56b4e9", "*", "--"),
}

Data = dict[str, Any]


# --- the parts of the page -------------------------------------------------------------------------------------------


def setup(data: Data) -> str:
    """The machine, the versions and the commit of the run."""
    machine = data["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items() if version)
    threads = ", ".join(f"{name} {count}" for name, count in data["settings"]["threads"].items() if count)
    partial = "**A partial run.** " if data["partial"] else ""
    others = machine["cores_used_by_others"]
    used = "" if others is None else f" ({others:g} used by other programs meanwhile)"
    where = f"{machine['cpu']}, {machine['cores']} cores{used}; {machine['system']}"
    parts = [f"{partial}{where}; {data['date'][:10]}, {commit_of(data)}. Threads: {threads}.", f"{versions}."]
    return "\n\n".join(parts)


def later(data: Data) -> str:
    """The cases that were measured after the run, by commit."""
    lines = [
        f"- {each['date'][:10]}, {commit_of(each)}: {', '.join(each['what'])}." for each in data.get("updates", ())
    ]
    return "\n".join(lines) or "None."


def commit_of(run: Data) -> str:
    """The commit that a run measured."""
    git = run["git"]
    commit = f"commit `{git['commit'][:12]}`" if git["commit"] else "no commit"
    return f"{commit}{' with uncommitted changes' if git['dirty'] else ''}"


def targets(data: Data) -> str:
    """The target ratios, beside the measured ones."""
    cases = [case for case in data["cases"] if any("target" in record for record in case["results"].values())]
    rows = []
    for case in cases:
        cells = [ratio_cell(case["results"].get(name, {})) for name in OURS]
        rows.append([case["name"], case.get("peer", NONE), *cells])
    rows += [
        [f"{curve}, growth from 10k to 1M", NONE, f"n^{points['exponent']:.2f} (≤ {points['target']:g}) {mark(points)}"]
        for curve, by_name in data["curves"].items()
        for points in by_name.values()
        if "target" in points
    ]
    rows += [
        [
            f"{record['scene']}, peak memory",
            NONE,
            f"{record['peak'] / 1e9:.2f} GB (< {record['target'] / 1e9:g}) {mark(record)}",
        ]
        for record in data["memory"]
        if "target" in record
    ]
    return table(["scene", "against", *(NAMES[name] for name in OURS)], rows)


def group_table(group: str, what: str = "pairs") -> Callable[[Data], str]:
    """Times and ratios of one group of cases."""

    def made(data: Data) -> str:
        cases = [case for case in data["cases"] if case["group"] == group]
        present = [name for name in NAMES if any(name in case["results"] for case in cases)]
        with_kept = any("kept" in case for case in cases)
        rows = []
        for case in cases:
            counts = [f"{case['n']:,}", *([f"{case['kept']:,}" if "kept" in case else "–"] if with_kept else [])]
            rows.append([case["name"], *counts, *(time_cell(case["results"].get(name)) for name in present)])
        header = ["scene", "boxes", "kept"] if with_kept else ["scene", what]
        return table([*header, *(NAMES[name] for name in present)], rows)

    return made


def busy(data: Data) -> str:
    """Times on a quiet machine and beside a busy process, and their ratio."""
    cases = [case for case in data["cases"] if case["group"] == "busy"]
    present = [name for name in NAMES if any(name in case["results"] for case in cases)]
    rows = [
        [case["name"], f"{case['n']:,}", *(busy_cell(case["results"].get(name)) for name in present)] for case in cases
    ]
    return table(["scene", "boxes", *(NAMES[name] for name in present)], rows)


def busy_cell(record: Data | None) -> str:
    """The quiet time, the busy time, and their ratio."""
    if record is None or "quiet" not in record:
        return NONE if record is None else "failed"
    times = f"{duration(record['quiet'])}, busy {duration(record['seconds'])}"
    return f"{times} ({number(record['seconds'] / record['quiet'])} times)"


def counts(data: Data) -> str:
    """The work of one call of each op, counted without a clock."""
    rows = []
    for count in data.get("counts", ()):
        calls = [f"{count['calls'][name]:,}" if name in count["calls"] else NONE for name in OURS]
        rows.append([f"`{count['op']}`", *calls, *(f"{count[key]:,}" if key in count else NONE for key in DISPATCHED)])
    libraries = ("NumPy", "torch CPU", "JAX")
    return table(["op", *(f"calls, {name}" for name in libraries), "torch operations", "waits among them"], rows)


def speed(data: Data) -> str:
    """The README's table: some cases of every family, each beside its peer."""
    cases = {case["name"]: case for case in data["cases"]}
    rows = []
    for name, label in SPEED.items():
        if case := cases.get(name):
            peers = [peer.strip() for peer in case.get("peer", "").split(",")]
            times = [f"{duration(case['results'][peer]['seconds'])}, {NAMES[peer]}" for peer in peers]
            rows.append([label, "; ".join(times), *(time_cell(case["results"].get(name)) for name in OURS)])
    return table(["float32", "the peer", "NumPy", "torch CPU", "JAX"], rows)


def growth(data: Data) -> str:
    """Exponents, and the plots."""
    rows = [
        [
            curve,
            NAMES[name],
            f"{points['sizes'][0]:,} – {points['sizes'][-1]:,}",
            duration(points["seconds"][-1]),
            f"n^{points['exponent']:.2f}",
            f"n^{points['steepest']:.2f}",
        ]
        for curve, by_name in data["curves"].items()
        for name, points in by_name.items()
        if "exponent" in points
    ]
    header = ["scene", "who", "boxes", "time at the largest", "growth from 10k on", "steepest step"]
    pictures = [
        f"![{title(curve)}: time against the number of {unit(curve)}]({IMAGES}/{plot_name(curve)})"
        for curve in data["curves"]
    ]
    return "\n\n".join([table(header, rows), *pictures])


def memory(data: Data) -> str:
    """Peak memory, each in its own process."""
    rows = [
        [
            record["scene"],
            NAMES[record["contender"]],
            *(f"{record[key] / 1e6:,.0f} MB" for key in ("before", "peak", "extra")),
        ]
        if "failed" not in record
        else [record["scene"], NAMES[record["contender"]], "failed", NONE, NONE]
        for record in data["memory"]
    ]
    methods = sorted({record["method"] for record in data["memory"] if "method" in record})
    header = ["scene", "who", "before the call", "peak", "by the call"]
    parts = [table(header, rows), *(f"Measured by {method}." for method in methods)]
    if MEMORY in plots(data):
        parts.append(f"![{title(MEMORY)}: megabytes against the number of boxes]({IMAGES}/{plot_name(MEMORY)})")
    return "\n\n".join(parts)


def agreement(data: Data) -> str:
    """Where a peer keeps other boxes than torchvision, and how each peer's conventions differ."""
    notes: dict[str, str] = {}
    rows = []
    for case in data["cases"]:
        for name, record in case["results"].items():
            if "note" in record:
                notes[name] = record["note"]
            if record.get("identical") is False and "common" in record:
                rows.append(
                    [
                        case["name"],
                        NAMES[name],
                        *(f"{value:,}" for value in (case["kept"], record["kept"], record["common"])),
                    ]
                )
    lines = [f"- {NAMES[name]}: {note}." for name, note in notes.items()]
    if rows:
        found = table(["scene", "library", "kept by the reference", "kept by the library", "kept by both"], rows)
    else:
        found = "Everyone kept the same boxes on every scene."
    return "\n\n".join([found, *(["\n".join(lines)] if lines else [])])


def gpu(data: Data) -> str:
    """Medians of single calls on one GPU, and how much our answers differ from the first in the row."""
    who = list(dict.fromkeys(row["who"] for row in data["rows"] if row["who"].startswith("anyops")))
    rows = []
    for case in dict.fromkeys(row["case"] for row in data["rows"]):
        cells = {row["who"]: row for row in data["rows"] if row["case"] == case}
        peer = next((row for name, row in cells.items() if name not in who), None)
        row = [case, NONE if peer is None else f"{duration(peer['seconds'])} ({peer['who']})"]
        for name in who:
            ratio = "" if peer is None else f" ({number(peer['seconds'] / cells[name]['seconds'])}×)"
            row.append(duration(cells[name]["seconds"]) + ratio if name in cells else "failed")
        apart = [row["agreement"] for name, row in cells.items() if name in who and row["agreement"] != "0e+00"]
        rows.append([*row, max(apart, key=lambda found: (found != "equal", found), default="equal")])
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    header = ["case", "peer", *(name.replace("anyops ", "anyops, ") for name in who), "largest relative difference"]
    return f"{data['device']}, {data['date']}; {versions}.\n\n{table(header, rows)}"


PARTS: dict[str, Callable[[Data], str]] = {
    "setup": setup,
    "later": later,
    "targets": targets,
    "scenes": group_table("scenes"),
    "labelled": group_table("labelled"),
    "images": group_table("images"),
    "mask": group_table("mask"),
    "padded": group_table("padded"),
    "busy": busy,
    "box-iou": group_table("box_iou"),
    "family": group_table("family"),
    "static": group_table("static"),
    "losses": group_table("losses", "logits"),
    "norm": group_table("norm", "values"),
    "kmeans": group_table("kmeans", "samples"),
    "logistic": group_table("logistic", "samples"),
    "boxes": group_table("boxes", "boxes, pairs or masks"),
    "cluster": group_table("cluster", "boxes"),
    "regions": group_table("regions", "boxes or pairs"),
    "training": group_table("training", "boxes or values"),
    "parts": group_table("parts", "samples"),
    "adversarial": group_table("adversarial"),
    "growth": growth,
    "memory": memory,
    "counts": counts,
    "agreement": agreement,
}
README_PARTS: dict[str, Callable[[Data], str]] = {"speed": speed}
GPU_PARTS: dict[str, Callable[[Data], str]] = {"gpu": gpu}


# --- cells -----------------------------------------------------------------------------------------------------------


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; short rows are filled up."""
    if not rows:
        return "Not measured."
    full = [header, ["---"] * len(header), *(row + [NONE] * (len(header) - len(row)) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in full)


def time_cell(record: Data | None) -> str:
    """Median time; ours with the ratio, and the number of runs if it is small."""
    if record is None:
        return NONE
    if "failed" in record:
        return "failed"
    ratio = f" ({number(record['ratio'])}×)" if "ratio" in record else ""
    few = "" if record["repetitions"] > 2 else f" [{record['repetitions']} runs]"
    return duration(record["seconds"]) + ratio + few


def ratio_cell(record: Data) -> str:
    """The measured ratio, the target, and whether it was met."""
    if "target" not in record:
        return f"{number(record['ratio'])}×" if "ratio" in record else NONE
    reached = f"{number(record['ratio'])}×" if "ratio" in record else "failed"
    return f"{reached} (≥ {record['target']:.3g}) {mark(record)}"


def mark(record: Data) -> str:
    return "✓" if record["met"] else "✗ missed"


# --- plots -----------------------------------------------------------------------------------------------------------


def title(curve: str) -> str:
    return CURVES.get(curve, (curve, ""))[0]


def unit(curve: str) -> str:
    """The unit of n."""
    return CURVES.get(curve, ("", "boxes"))[1]


def plot_name(curve: str) -> str:
    return f"performance-{curve}.png"


def plots(data: Data) -> list[str]:
    """The curves that are drawn."""
    sizes = {record.get("n") for record in data["memory"]}
    return [*data["curves"], *([MEMORY] if len(sizes - {None}) > 1 else [])]


def lines(data: Data, curve: str) -> dict[str, tuple[list[int], list[float]]]:
    """Sizes, and milliseconds or megabytes, by contender."""
    if curve != MEMORY:
        by_name = data["curves"][curve]
        return {name: (each["sizes"], [s * 1e3 for s in each["seconds"]]) for name, each in by_name.items()}
    found: dict[str, tuple[list[int], list[float]]] = {}
    for record in data["memory"]:
        if "extra" in record:
            sizes, megabytes = found.setdefault(record["contender"], ([], []))
            sizes.append(record["n"])
            megabytes.append(record["extra"] / 1e6)
    return found


def digest(data: Data, curve: str) -> str:
    """A hash of the data of a plot, stored in the PNG, so that a stale plot is found without drawing it again."""
    made_from = json.dumps([title(curve), data["machine"]["cpu"], lines(data, curve)], sort_keys=True)
    return hashlib.sha256(made_from.encode()).hexdigest()


def draw(data: Data, curve: str, path: Path) -> None:
    """Time, or memory, against the size of the problem, both logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (colour, marker, line) in STYLE.items():
        if points := lines(data, curve).get(name):
            axes.plot(*points, line, color=colour, marker=marker, label=NAMES[name])
    axes.set(xscale="log", yscale="log", xlabel=unit(curve), ylabel="MB" if curve == MEMORY else "milliseconds")
    axes.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    axes.yaxis.set_major_formatter(lambda ms, _: f"{ms:g}")
    axes.set_title(title(curve), fontsize="medium", loc="left")
    axes.grid(which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Source": digest(data, curve)})


def ratios(data: Data) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """By family: each case that has a peer, and how much faster each of ours is."""
    found: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for case in data["cases"]:
        measured = {name: case["results"].get(name, {}).get("ratio") for name in OURS}
        if case["group"] in FAMILIES and any(measured.values()):
            ours = {name: ratio for name, ratio in measured.items() if ratio}
            found.setdefault(FAMILIES[case["group"]], []).append((case["name"], ours))
    return found


def ratios_digest(data: Data) -> str:
    """A hash of the data of the plot of all ratios."""
    return hashlib.sha256(json.dumps(ratios(data), sort_keys=True).encode()).hexdigest()


def draw_ratios(data: Data, path: Path) -> None:
    """How much faster than the peer, a row for each case, a panel for each family."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = ratios(data)
    rows = sum(map(len, found.values()))
    figure = Figure(figsize=(8, 1.2 + 0.24 * rows + 0.35 * len(found)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    heights = [len(cases) + 0.6 for cases in found.values()]
    panels = figure.subplots(len(found), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (family, cases) in zip(panels, found.items(), strict=True):
        for name in OURS:
            colour, marker, _ = STYLE[name]
            points = [(case[name], -row) for row, (_, case) in enumerate(cases) if name in case]
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, marker=marker, s=30, label=NAMES[name], zorder=3)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(xscale="log", ylim=(0.6 - len(cases), 0.6))
        axes.set_yticks([-row for row in range(len(cases))], [name for name, _ in cases], fontsize=7)
        axes.set_title(family, fontsize="small", loc="left", pad=2)
        axes.grid(which="major", color="#e5e5e5")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].xaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}×")
    panels[-1].set_xlabel("times as fast as the peer")
    panels[0].legend(frameon=False, fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Source": ratios_digest(data)})


def stale_plots(data: Data, folder: Path) -> list[Path]:
    """Plots that are missing or were made from other numbers."""
    wanted = {folder / plot_name(curve): digest(data, curve).encode() for curve in plots(data)}
    if ratios(data):
        wanted[folder / RATIOS] = ratios_digest(data).encode()
    return [path for path, mark in wanted.items() if not path.exists() or mark not in path.read_bytes()]


# --- the command -----------------------------------------------------------------------------------------------------


def fill(page: str, data: Data, parts: dict[str, Callable[[Data], str]] = PARTS) -> str:
    """Return the page with all parts generated again; raise SystemExit if it names an unknown part."""

    def made(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name not in parts:
            raise SystemExit(f"unknown generated part {name!r}; expected one of {', '.join(parts)}")
        return f"{begin}\n{parts[name](data)}\n\n{end}"

    if page.count("<!-- begin: generated ") != len(BLOCK.findall(page)):
        raise SystemExit("a generated part has no `<!-- end -->`, or its first line is not well formed")
    return BLOCK.sub(made, page)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Generate the tables and plots of docs/performance.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is not up to date")
    parser.add_argument("--results", type=Path, default=PUBLISHED, metavar="FILE")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    options = parser.parse_args(argv)
    data = load(options.results)
    old_plots = stale_plots(data, options.page.parent / IMAGES)
    stale = [options.page] if refresh(options.page, data, PARTS, write=not options.check) else []
    if options.page == PAGE:
        others = (README, data, README_PARTS), (GPU_PAGE, load(GPU_RESULTS), GPU_PARTS)
        stale += [page for page, *made in others if refresh(page, *made, write=not options.check)]
    if options.check:
        for path in (*stale, *old_plots):
            print(f"{path.name} is not up to date; run `python benchmarks/report.py`")
        return 1 if stale or old_plots else 0
    for curve in plots(data):
        if options.page.parent / IMAGES / plot_name(curve) in old_plots:
            draw(data, curve, options.page.parent / IMAGES / plot_name(curve))
    if options.page.parent / IMAGES / RATIOS in old_plots:
        draw_ratios(data, options.page.parent / IMAGES / RATIOS)
    print(f"{', '.join(path.name for path in stale) or 'no page'} updated; {len(old_plots)} plots drawn")
    return 0


def refresh(path: Path, data: Data, parts: dict[str, Callable[[Data], str]], *, write: bool) -> bool:
    """Return whether a page is not up to date; update it if `write`."""
    page = path.read_text()
    filled = fill(page, data, parts)
    if write and page != filled:
        path.write_text(filled)
    return page != filled


if __name__ == "__main__":
    sys.exit(main())
