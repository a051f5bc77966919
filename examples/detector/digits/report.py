"""The report: one page that contains its pictures and needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from . import picture
from .detector import Detections
from .evaluate import Precision
from .scenes import Scene

_STYLE = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --tint: #f5f7fa; --accent: #1a3fbf; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 0 28px 64px; }
header { background: #12233f; color: #fff; margin-bottom: 8px; }
header div { max-width: 1120px; margin: 0 auto; padding: 44px 28px 36px; }
h1 { font-size: 34px; line-height: 1.2; margin: 0 0 10px; letter-spacing: -0.01em; }
header p { margin: 0; max-width: 46em; color: #d5deee; font-size: 17px; }
h2 { font-size: 24px; margin: 52px 0 6px; letter-spacing: -0.01em; }
h3 { font-size: 17px; margin: 0 0 4px; }
p { margin: 8px 0 14px; max-width: 50em; }
code { font: 0.88em ui-monospace, Menlo, Consolas, monospace; background: var(--tint); padding: 1px 5px;
  border-radius: 4px; }
img { display: block; width: 100%; height: auto; }
figure { margin: 14px 0; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 6px; }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; margin: 26px 0 8px; }
.facts div { background: var(--tint); border-radius: 10px; padding: 14px 18px; }
.facts b { display: block; font-size: 27px; line-height: 1.2; color: var(--accent); }
.facts span { color: var(--soft); font-size: 14px; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 28px; align-items: start; }
.two > * { min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 14px 0; font-size: 14.5px;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 2px solid var(--line);
  vertical-align: bottom; }
th, td { padding: 6px 10px; }
td:first-child { white-space: nowrap; }
td { border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; white-space: nowrap; }
td.best { font-weight: 700; color: var(--accent); }
.tabs > input { position: absolute; opacity: 0; }
.tabs > label { display: inline-block; padding: 5px 12px; margin: 0 4px 6px 0; border: 1px solid var(--line);
  border-radius: 16px; cursor: pointer; font-size: 14.5px; }
.tabs > input:checked + label { background: var(--accent); border-color: var(--accent); color: #fff; }
.tabs > input:focus-visible + label { outline: 2px solid var(--accent); outline-offset: 2px; }
.pane { display: none; }
footer { color: var(--soft); font-size: 14px; border-top: 1px solid var(--line); margin-top: 48px; padding-top: 14px; }
@media (max-width: 760px) { .two { grid-template-columns: 1fr; } .facts { grid-template-columns: 1fr 1fr; } }
"""


def compose(
    figures: Mapping[str, Any],
    *,
    scene: Scene,
    raw: Detections,
    found: Mapping[str, Detections],
    words: np.ndarray,
    anchors: np.ndarray,
    sizes: np.ndarray,
    precisions: Mapping[str, Mapping[str, Precision]],
    shares: Mapping[str, np.ndarray],
) -> str:
    """Return the page. `scene`, `raw` and `found` are of the scene that is shown, the rest is of all scenes."""
    main = figures["losses"][0]
    parts = [
        _head(figures),
        _learnt(figures, words, anchors, sizes),
        _losses(figures, {loss: each["nms"] for loss, each in precisions.items()}, shares),
        _methods(figures, scene, raw, found),
        _precisions(figures, precisions[main]),
        _backends(figures),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>A detector made of anyops’s parts</title>\n<style>{_STYLE}{_tab_style(len(found))}</style>\n"
        f"</head>\n<body>\n{parts[0]}\n<main>\n"
        + "\n".join(parts[1:])
        + f"\n{_foot(figures)}\n</main>\n</body>\n</html>\n"
    )


def _head(figures: Mapping[str, Any]) -> str:
    return (
        "<header><div><h1>A detector made of this library’s parts</h1><p>It finds handwritten digits on crowded pages: "
        "a codebook and window sizes by k-means, features normalised by batch norm, a linear classifier by logistic "
        "regression and by the focal loss, sliding windows, and every method of suppression. The same code ran on "
        f"{_listed([entry['backend'] for entry in figures['backends']])}.</p></div></header>"
    )


def _learnt(figures: Mapping[str, Any], words: np.ndarray, anchors: np.ndarray, sizes: np.ndarray) -> str:
    best = _best(figures)
    main, training = figures["losses"][0], figures["training"]
    facts = [
        (f"{figures['raw']['boxes']:,}", f"raw boxes for {figures['digits']} digits in {figures['scenes']} scenes"),
        (f"{figures['raw']['ap'][main]:.3f}", "COCO’s AP of the raw boxes"),
        (f"{best['ap'][main]:.3f}", f"AP after the best method, {escape(best['method'])}"),
        _agreement_fact(figures),
    ]
    cards = "".join(f"<div><b>{value}</b><span>{text}</span></div>" for value, text in facts)
    strokes = _img(picture.words(words), "codebook of strokes", "svg")
    scatter = picture.chart(picture.anchors, sizes, anchors, width=5.4, height=3.2)
    return f"""<section class="facts">{cards}</section>
<h2>1. Strokes and sizes, learnt without labels</h2>
<div class="two">
<figure>{strokes}
<figcaption>{len(words)} strokes: the centres of patches of 5 by 5 cells, by <code>kmeans(metric="cosine")</code>. The
features of a window are the similarities of its parts to each of them.</figcaption></figure>
<figure>{_img(scatter, "sizes of digits and anchors", "svg")}
<figcaption>{len(anchors)} anchors, the sizes of the sliding windows, by <code>kmeans(metric="iou",
center="median")</code>. The mean IoU of a digit’s size with the closest anchor is
{training["mean_iou_of_anchors"]:.3f}.</figcaption></figure>
</div>"""


def _losses(figures: Mapping[str, Any], after_nms: Mapping[str, Precision], curves: Mapping[str, np.ndarray]) -> str:
    training, names = figures["training"], figures["losses"]
    plain, focal = (training["classifiers"][loss] for loss in names)
    ap = figures["methods"][0]["ap"]
    change = ap[names[1]] - ap[names[0]]
    verdict = (
        "the same within 0.005"
        if abs(change) < 0.005
        else f"{'higher' if change > 0 else 'lower'} by {abs(change):.3f}"
    )
    why = (
        ""
        if change >= 0.005
        else """ A linear model near the minimum of its loss tolerates an imbalance of a hundred to one; the focal loss
was made for deep networks, whose many training steps easy windows would otherwise dominate."""
    )
    rows = [
        ("share of the loss from windows on no digit", "background_share_of_loss", "{:.1%}"),
        (
            "share from the easy ones, with a probability above 0.9",
            "easy_background_share_of_loss",
            "{:.1%}",
        ),
        (f"of {figures['digits']} digits, found with a probability above ½", "digits_found_above_one_half", "{:,}"),
        ("wrong boxes with a probability above ½", "wrong_above_one_half", "{:,}"),
        ("steps of L-BFGS", "iterations", "{:,}"),
    ]
    body = "".join(_row(name, (form.format(each[key]) for each in (plain, focal))) for name, key, form in rows)
    row = figures["methods"][0]
    for field in ("ap", "ap50"):
        body += _row(f"{field.upper()} after {row['method']}", (f"{row[field][loss]:.3f}" for loss in names))
    easy = [f"{each['easy_background_share_of_loss']:.1%}" for each in (plain, focal)]
    sure = [each["digits_found_above_one_half"] for each in (plain, focal)]
    wrong = [each["wrong_above_one_half"] for each in (plain, focal)]
    share_chart = picture.chart(picture.shares, curves, width=5.4, height=3.9)
    curve_chart = picture.chart(picture.losses_precision_recall, after_nms, width=5.4, height=3.9)
    return f"""<h2>2. Focal loss against cross-entropy</h2>
<p>The same windows, {training["on_digits"]:,} on digits and {training["background"]:,} on none, the same features, the
same model of eleven classes and the same penalty, from the same start. One minimises cross-entropy
(<code>logistic_regression</code>), the other the focal loss with γ = 2
(<code>softmax_focal_loss_and_grad</code> in a loop of L-BFGS).</p>
<p><b>Purpose of the focal loss:</b> at the cross-entropy classifier, easy windows on no digit contribute {easy[0]} of
the cross-entropy, and {easy[1]} of the focal loss, so training concentrates on the hard ones.
<b>Result here:</b> AP after nms is {verdict}; boxes with a probability above one half find {sure[1]} digits and are
wrong {wrong[1]} times; with cross-entropy they find {sure[0]} and are wrong {wrong[0]} times.{why}</p>
<div class="two">
<figure>{_img(share_chart, "share of the loss by windows, the hardest first", "svg")}
<figcaption>Cumulative share of the loss of windows on no digit, the hardest first, at the cross-entropy
classifier.</figcaption></figure>
<figure>{_img(curve_chart, "precision and recall by loss", "svg")}
<figcaption>Precision and recall of each classifier on the unseen scenes.</figcaption></figure>
</div>
<table><tr><th></th>{"".join(f'<th class="n">{loss}</th>' for loss in names)}</tr>{body}</table>"""


def _row(name: str, values: Iterable[str]) -> str:
    return f"<tr><td>{escape(name)}</td>" + "".join(f'<td class="n">{value}</td>' for value in values) + "</tr>"


def _methods(figures: Mapping[str, Any], scene: Scene, raw: Detections, found: Mapping[str, Detections]) -> str:
    tabs, panes = [], []
    before = _img(picture.page(scene, raw, raw=True), "before", "png")
    for number, (row, (name, ours)) in enumerate(zip(figures["methods"], found.items(), strict=True)):
        checked = " checked" if number == 0 else ""
        tabs.append(
            f'<input type="radio" name="method" id="m{number}"{checked}><label for="m{number}">{escape(name)}</label>'
        )
        panes.append(
            f'<figure class="pane p{number}">{_img(picture.page(scene, ours), f"after {name}", "png")}'
            f"<figcaption><b>After</b> <code>anyops.{escape(row['call'])}</code>: {picture.box_counts(scene, ours)}."
            "</figcaption></figure>"
        )
    overview = picture.crops(scene, raw, found)
    return f"""<h2>3. A scene before and after each method</h2>
<p>{escape(picture.CAPTION)} Boxes with lower scores are fainter; the lowest have no tag. Only boxes with a tag are
counted. Choose a method:</p>
<div class="tabs">{"".join(tabs)}
<div class="two"><figure>{before}<figcaption><b>Before</b>: {len(raw.scores):,} boxes for {len(scene.labels)} digits.
The colour is the digit.</figcaption></figure><div>{"".join(panes)}</div></div></div>
<h3>All methods, on the most crowded part of that scene</h3>
<figure>{_img(overview, "a part of the scene after each method", "png")}</figure>"""


def _precisions(figures: Mapping[str, Any], precisions: Mapping[str, Precision]) -> str:
    losses = figures["losses"]
    rows = [{"method": "raw", "call": "", **figures["raw"]}, *figures["methods"]]
    tops = {(field, loss): max(row[field][loss] for row in rows) for field in ("ap", "ap50") for loss in losses}
    body = "".join(
        f"<tr><td>{escape(row['method'])}</td><td>{_code(row['call'])}</td><td class='n'>{row['boxes']:,}</td>"
        + "".join(
            f"<td class='n{' best' if row[field][loss] == tops[field, loss] else ''}'>{row[field][loss]:.3f}</td>"
            for loss in losses
            for field in ("ap", "ap50")
        )
        + "</tr>"
        for row in rows
    )
    heads = "".join(f'<th class="n">{field}<br>{loss}</th>' for loss in losses for field in ("AP", "AP50"))
    chart = picture.chart(picture.precision_recall, precisions, width=7.6, height=5.4)
    bars = picture.chart(picture.precision_bars, figures, width=5.6, height=5.4)
    return f"""<h2>4. Precision and recall</h2>
<div class="two" style="grid-template-columns: 7.6fr 5.6fr">
<figure>{_img(chart, "precision-recall curves", "svg")}</figure>
<figure>{_img(bars, "AP of each method", "svg")}</figure></div>
<p>By pycocotools, over {figures["scenes"]} scenes; AP is the mean over IoU thresholds of 0.5 to 0.95. The curves, the
pictures and the numbers of boxes are of the {escape(losses[0])} classifier. No step refines a window to the digit in
it, so AP50 mostly measures which digits are found, and AP how well the windows fit. Fusion averages many
windows, which improves the fit.</p>
<div class="scroll"><table><tr><th>method</th><th>call</th><th class="n">boxes</th>{heads}</tr>{body}</table></div>"""


def _backends(figures: Mapping[str, Any]) -> str:
    entries = figures["backends"]
    names = [entry["backend"] for entry in entries]
    steps = list(entries[0]["seconds"])
    body = "".join(
        f"<tr><td>{escape(entry['backend'])} {escape(entry['version'])}</td><td>{escape(entry['device'])}</td>"
        + "".join(f"<td class='n'>{seconds:.1f}</td>" for seconds in entry["seconds"].values())
        + f"<td class='n'>{sum(entry['seconds'].values()):.1f}</td>"
        + f"<td class='n'>{entry['largest_ap_difference']:.4f}</td></tr>"
        for entry in entries
    )
    times = "".join(
        _row(row["method"], (f"{row['milliseconds'][name]:,.1f}" for name in names)) for row in figures["methods"]
    )
    heads = "".join(f'<th class="n">{step}<br>s</th>' for step in steps)
    steps_chart = picture.chart(picture.step_bars, figures, width=10.8, height=1.4 + 0.55 * len(entries))
    bars = picture.chart(picture.time_bars, figures, width=5.6, height=5.6)
    return f"""<h2>5. The same on every library</h2>
<figure>{_img(steps_chart, "seconds for each step and library", "svg")}
<figcaption>End to end, compilation and first calls included, one library after another in one process, with one thread.
Suppression includes both classifiers, and the repetitions for its timing.</figcaption></figure>
<div class="scroll"><table><tr><th>library</th><th>device</th>{heads}
<th class="n">all<br>s</th><th class="n">largest difference<br>of an AP</th></tr>{body}</table></div>
<p>The last column is over all methods and both classifiers, against {escape(names[0])}.</p>
<div class="two"><figure>{_img(bars, "time of each method and library", "svg")}</figure>
<div><table><tr><th>milliseconds</th>{"".join(f'<th class="n">{name}</th>' for name in names)}</tr>{times}</table>
<p>One call for all scenes, {figures["raw"]["boxes"]:,} boxes: the median of up to three, without the first.</p>
</div></div>"""


def _foot(figures: Mapping[str, Any]) -> str:
    return (
        f"<footer>anyops {escape(figures['anyops'])}, Python {escape(figures['python'])}, "
        f"{escape(figures['machine'])}; seed {figures['seed']}, {figures['training_scenes']} scenes to learn from and "
        f"{figures['scenes']} to find digits in, "
        "pasted from the handwritten digits that come with scikit-learn, by other writers. All figures are in "
        "<code>summary.json</code> beside this page.</footer>"
    )


def _agreement_fact(figures: Mapping[str, Any]) -> tuple[str, str]:
    others = figures["backends"][1:]
    if not others:
        return f"{sum(figures['backends'][0]['seconds'].values()):.0f} s", "for all steps, on one library"
    largest = max(entry["largest_ap_difference"] for entry in others)
    return f"±{largest:.4f}", f"largest difference of an AP between {len(others) + 1} array libraries"


def _best(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    return max(figures["methods"], key=lambda row: row["ap"][figures["losses"][0]])


def _tab_style(count: int) -> str:
    return "".join(f"#m{n}:checked ~ .two .p{n} {{ display: block; }}\n" for n in range(count))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _code(call: str) -> str:
    return f"<code>{escape(call)}</code>" if call else ""


def _img(figure: Figure, alt: str, kind: str) -> str:
    """Draw a figure into the page itself."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"dpi": 120, "pil_kwargs": {"optimize": True}} if kind == "png" else {}
    figure.savefig(buffer, format=kind, **options)
    media = "image/svg+xml" if kind == "svg" else "image/png"
    return f'<img alt="{escape(alt)}" src="data:{media};base64,{base64.b64encode(buffer.getvalue()).decode()}">'
