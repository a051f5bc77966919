"""Step 4. Slide windows of all sizes over scenes by other writers; keep the thousand best of each scene.

    python examples/detector/04_detect.py --backend torch

Features as in step 2, `batch_norm` with the statistics of step 2, `logistic_predict_proba`, `top_scores`.
"""

from digits.codebook import Codebook
from digits.detector import detect_all
from digits.training import Classifier, Normalisation
from digits.windows import make_views
from steps import options


def main(argv=None):
    step = options(__doc__, argv)
    codebook = Codebook(**step.load("codebook"))
    views = make_views(codebook.anchors, step.ship)
    normalisation = Normalisation(**step.load("normalisation"))
    losses = ("cross-entropy", "focal")
    classifiers = [Classifier(**step.load(loss)) for loss in losses]
    found = detect_all(step.material().scenes, codebook, views, normalisation, classifiers, step.ship)
    for loss, raw in zip(losses, found, strict=True):
        print(f"{loss:14} {len(raw.scores):,} raw boxes, scores from {raw.scores.min():.3f} to {raw.scores.max():.3f}")
        step.save(f"raw-{loss}", **raw._asdict())


if __name__ == "__main__":
    main()
