"""Step 6. COCO's average precision before and after each method, by pycocotools.

python examples/detector/06_evaluate.py
"""

from digits.arrays import to_host
from digits.detector import Detections
from digits.evaluate import average_precision, coco_ground_truth, coco_results
from digits.methods import METHODS
from steps import options


def main(argv=None):
    step = options(__doc__, argv)
    truth = coco_ground_truth(step.material().scenes)
    table = {}
    print(f"{'':14} {'':16}     AP   AP50")
    for loss in ("cross-entropy", "focal"):
        for name in ("raw", *(method.name for method in METHODS)):
            found = Detections(**{key: to_host(array) for key, array in step.load(f"{name}-{loss}").items()})
            table[loss, name] = average_precision(truth, coco_results(found))
            print(f"{loss:14} {name:16}  {table[loss, name].ap:.3f}  {table[loss, name].ap50:.3f}")
    return table


if __name__ == "__main__":
    main()
