"""Step 2. Draw training windows, a hundred on no digit for each one on a digit, and normalise their features.

    python examples/detector/02_windows.py --backend torch

A feature is the similarity of a part of a window to a stroke; `box_iou` decides which windows are on a digit.
`batch_norm` scales each feature to mean 0 and variance 1, and returns the running statistics, which the detector needs
for its own windows.
"""

from digits.codebook import Codebook
from digits.training import BACKGROUND, gather_windows, normalise
from digits.windows import make_views
from steps import options


def main(argv=None):
    step = options(__doc__, argv)
    codebook = Codebook(**step.load("codebook"))
    views = make_views(codebook.anchors, step.ship)
    training = step.material().training
    windows, normalisation = normalise(gather_windows(training, codebook, views, step.ship, seed=step.settings.seed))
    on = int((windows.labels != BACKGROUND).sum())
    print(f"{on:,} windows on digits, {windows.labels.shape[0] - on:,} on none, {windows.features.shape[1]} features")
    step.save("windows", features=windows.features, labels=windows.labels)
    step.save("normalisation", mean=normalisation.mean, var=normalisation.var)


if __name__ == "__main__":
    main()
