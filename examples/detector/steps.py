"""What the steps share: the options of the command line, and the folder in which one leaves its results to the next."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anyops.demo.arrays import Ship, shipper, to_host
from anyops.demo.run import Material, Settings, prepare


class Options(NamedTuple):
    """`ship` brings a NumPy array to the library and device that were asked for."""

    settings: Settings
    folder: Path
    ship: Ship

    def material(self) -> Material:
        """The digits and scenes: drawn anew by each step, from the same seed."""
        return prepare(self.settings)

    def save(self, name: str, **arrays: Any) -> None:
        """Keep arrays of any library as a file of NumPy arrays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez(self.folder / f"{name}.npz", **{key: to_host(value) for key, value in arrays.items()})
        print(f"wrote {self.folder / name}.npz")

    def load(self, name: str) -> dict[str, Any]:
        """What an earlier step kept, as arrays of the library that this one runs on."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            raise SystemExit(f"{path} is not there: run the steps before this one with the same --folder")
        with np.load(path) as kept:
            return {key: self.ship(value) for key, value in kept.items()}


def options(description: str | None, argv: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--backend", default="numpy", choices=["numpy", "torch", "jax", "cupy"])
    parser.add_argument("--device", help="in the words of that library, such as cuda:0; its default one if not given")
    parser.add_argument("--folder", type=Path, default=Path("detector"), help="where the steps leave their results")
    parser.add_argument("--scenes", type=int, default=24, help="to find digits in")
    parser.add_argument("--training-scenes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    settings = Settings(given.scenes, given.training_scenes, given.seed)
    return Options(settings, given.folder, shipper(given.backend, given.device))
