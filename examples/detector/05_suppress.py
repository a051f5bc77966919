"""Step 5. From a thousand boxes in each scene to one for each digit, by every method of suppression.

python examples/detector/05_suppress.py --backend torch
"""

from digits.arrays import to_host
from digits.detector import Detections
from digits.methods import METHODS, suppress
from steps import options


def main(argv=None):
    step = options(__doc__, argv)
    for loss in ("cross-entropy", "focal"):
        raw = Detections(**{name: to_host(array) for name, array in step.load(f"raw-{loss}").items()})
        for method in METHODS:
            result = suppress(raw, method, step.ship)
            print(f"{loss:14} {len(result.kept):6,} boxes in {result.milliseconds:7.1f} ms by {method.call}")
            step.save(f"{method.name}-{loss}", **result.found._asdict())


if __name__ == "__main__":
    main()
