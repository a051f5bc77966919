"""Step 1. Learn strokes and window sizes without labels, by k-means.

    python examples/detector/01_codebook.py --backend torch

Patches of digits are clustered by the angle between them (`kmeans`, metric "cosine"), sizes of boxes by their IoU
(metric "iou", with medians for centres).
"""

from digits.codebook import box_sizes, learn_codebook, mean_iou, stroke_patches
from steps import options


def main(argv=None):
    step = options(__doc__, argv)
    digits, training, _ = step.material()
    patches, sizes = step.ship(stroke_patches(digits)), step.ship(box_sizes(training))
    codebook = learn_codebook(patches, sizes, seed=step.settings.seed)
    print(f"{codebook.words.shape[0]} strokes from {patches.shape[0]:,} patches")
    fit = mean_iou(sizes, codebook.anchors)
    print(f"{codebook.anchors.shape[0]} anchors, mean IoU with {sizes.shape[0]:,} digits {fit:.3f}")
    step.save("codebook", words=codebook.words, anchors=codebook.anchors)


if __name__ == "__main__":
    main()
