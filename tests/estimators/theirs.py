"""scikit-learn's installed tests, run with our estimator in place of theirs."""

import importlib.util
import sys
from types import ModuleType
from unittest import mock

import numpy as np
import pytest

SEED = 42  # the default of scikit-learn's own test runs


def load(name: str, estimator: type) -> ModuleType:
    """Import one of scikit-learn's test modules again, with our estimator, and with sparse inputs made dense."""
    import sklearn

    if not sklearn.__version__.startswith("1.9."):
        why = f"the selection is one of scikit-learn 1.9's tests, not {sklearn.__version__}'s"
        pytest.skip(why, allow_module_level=True)
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
    module = importlib.util.module_from_spec(spec)
    home = sys.modules[name.partition(".tests")[0]]
    with (
        # Patched during the import, because decorators keep the estimators that they name.
        mock.patch.object(home, estimator.__name__, estimator),
        mock.patch("sklearn.utils.fixes.CSR_CONTAINERS", [np.array]),
        mock.patch("sklearn.utils.fixes.COO_CONTAINERS", [np.array]),
    ):
        spec.loader.exec_module(module)
    return module


def select(
    module: ModuleType, left_out: dict[str, tuple[str, ...]], values: tuple, only: dict[str, tuple]
) -> dict[str, object]:
    """Return the tests that are left, by name.

    `left_out` has the names of others by reason; `values` are values of parameters that none is run with, `only` those
    that one is not run with.
    """
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    names = [name for group in left_out.values() for name in group]
    assert len(names) == len(set(names))
    assert set(names) | set(only) <= set(tests), "tests that scikit-learn does not have"
    kept = {name: test for name, test in tests.items() if name not in names}
    for name, test in kept.items():
        unwanted = values + only.get(name, ())
        test.pytestmark = [_without(mark, unwanted) for mark in getattr(test, "pytestmark", [])]
    return kept


def _without(mark: pytest.Mark, unwanted: tuple) -> pytest.Mark:
    """The same mark without the cases of a parametrization that contain an unwanted value."""
    if mark.name != "parametrize":
        return mark
    names, cases, ids = mark.args[0], list(mark.args[1]), mark.kwargs.get("ids")
    single = isinstance(names, str) and "," not in names
    keep = [
        i
        for i, case in enumerate(cases)
        if not any(_is_one_of(value, unwanted) for value in ((case,) if single else case))
        # Sparse cases are dense here, and would repeat the dense ones.
        and not (isinstance(ids, list) and ids[i].startswith("sparse"))
    ]
    kwargs = mark.kwargs | ({"ids": [ids[i] for i in keep]} if isinstance(ids, list) else {})
    return pytest.mark.parametrize(names, [cases[i] for i in keep], **kwargs).mark


def _is_one_of(value: object, unwanted: tuple) -> bool:
    plain = isinstance(value, str | int | float)
    return any(value is other or (plain and type(value) is type(other) and value == other) for other in unwanted)
