"""Step 7. All steps again, timed, on each library that is installed, and one page with pictures of them.

    python examples/detector/07_report.py

This is what `anyops demo` does, which takes options and checks its arguments.
"""

from pathlib import Path

from rich.progress import Progress

import anyops
from anyops.demo.run import Settings, run, write


def main(folder=Path("detector-report"), settings=None, libraries=("numpy", "torch", "jax", "cupy")):
    usable = [each.name for each in anyops.backends() if each.reason is None and each.name in libraries]
    folder.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        write(run(settings or Settings(), usable, progress), folder)
    print(f"open {folder / 'report.html'}")


if __name__ == "__main__":
    main()
