"""Shared by the scripts: the command line options, and the folder for the results of the steps."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digits.arrays import LIBRARIES, Ship, shipper, to_host
from digits.scenes import Material, Settings, prepare


class Options(NamedTuple):
    """`ship` converts a NumPy array to the chosen library and device."""

    settings: Settings
    folder: Path
    ship: Ship

    def material(self) -> Material:
        """The digits and scenes: each step draws them from the same seed."""
        return prepare(self.settings)

    def save(self, name: str, **arrays: Any) -> None:
        """Save arrays of any library as a file of NumPy arrays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept: dict[str, Any] = {key: to_host(value) for key, value in arrays.items()}
        np.savez(self.folder / f"{name}.npz", **kept)
        print(f"wrote {self.folder / name}.npz")

    def load(self, name: str) -> dict[str, Any]:
        """Load arrays that an earlier step saved, into the library of this step."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            raise SystemExit(f"{path} does not exist: run the earlier steps with the same --folder")
        with np.load(path) as kept:
            return {key: self.ship(value) for key, value in kept.items()}


def options(description: str | None, argv: Sequence[str] | None = None) -> Options:
    """Read the command line of a step."""
    parser = common_parser(description)
    parser.set_defaults(backend="numpy")
    parser.add_argument("--folder", type=Path, default=Path("build/detector"), help="folder for the results of steps")
    given = parser.parse_args(argv)
    return Options(settings(given), given.folder, shipper(given.backend, given.device))


def common_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options shared by the steps and the whole demonstration."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=LIBRARIES, help="array library to compute with")
    parser.add_argument("--device", help="device of that library, such as cuda:0; its default device if not given")
    parser.add_argument("--scenes", type=_at_least(1), default=24, help="number of scenes to find digits in")
    parser.add_argument("--training-scenes", type=_at_least(1), default=12, help="number of scenes to learn from")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="another seed draws other scenes")
    return parser


def settings(given: argparse.Namespace) -> Settings:
    """Return the settings that were given on the command line."""
    return Settings(given.scenes, given.training_scenes, given.seed)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {text!r}")
        return int(text)

    return number
