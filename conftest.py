"""The test matrix: fixtures over backends and transforms, and what was not tested."""

import importlib.util
import os
from collections import Counter

import hypothesis
import pytest

from tests.backends import Backend, Run, Transform, is_due, named_in, selected, why_not

# Before anything imports SciPy: without it scikit-learn's checks of estimators leave out those of the array API.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Examples in docstrings that need a library which is not there.
collect_ignore = [] if importlib.util.find_spec("sklearn") else ["src/anyops/estimators.py"]

NOT_TESTED = "not tested"
MATRIX = tuple(t for t in Transform if t is not Transform.GRAD)  # gradients have tests of their own

hypothesis.settings.register_profile("anyops", deadline=None, derandomize=True, max_examples=60)
# `--hypothesis-profile=fuzz`: long and at random; a failure prints how to see it again.
hypothesis.settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=300,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("anyops")


def pytest_configure(config):
    config.addinivalue_line("markers", "op(name, transforms=...): the op whose declaration says where the test runs")
    config.addinivalue_line("markers", "thread_unsafe: on some of scikit-learn's tests, which run here too")
    try:
        required, under_test = named_in("ANYOPS_REQUIRE_BACKENDS"), selected()
    except ValueError as e:
        raise pytest.UsageError(str(e)) from None
    absent = {b: b.why_unavailable() or (b not in under_test and "left out by ANYOPS_BACKENDS") for b in required}
    if lines := [f"{b} ({why})" for b, why in absent.items() if why]:
        raise pytest.UsageError(f"ANYOPS_REQUIRE_BACKENDS: cannot test {', '.join(lines)}")


def pytest_generate_tests(metafunc):
    names = [name for name in ("backend", "transform") if name in metafunc.fixturenames]
    if not names:
        return
    marker = metafunc.definition.get_closest_marker("op")
    transforms = marker.kwargs.get("transforms", MATRIX) if marker and "transform" in names else (Transform.EAGER,)
    if marker:  # a transform that an op has on no backend makes no skips; test_declarations_are_true holds ops to that
        op = marker.args[0]
        transforms = [t for t in transforms if any(why_not(op, b, t) is None for b in Backend if t.belongs_to(b))]
    cells = [(b, t) for b in selected() for t in transforms if is_due(b, t)]
    params = [
        pytest.param(*cell[: len(names)], id="-".join(map(str, cell[: len(names)])), marks=_skips(marker, *cell))
        for cell in cells
    ]
    metafunc.parametrize(names, params, indirect=True)


def _skips(marker, backend, transform):
    if why := backend.why_unavailable():
        return [pytest.mark.skip(reason=f"NOT TESTED: {backend} ({why})")]
    why = why_not(marker.args[0], backend, transform) if marker else None
    return [pytest.mark.skip(reason=f"{marker.args[0]}, {backend}, {transform}: {why}")] if why else []


def pytest_collection_modifyitems(items):
    for item in items:
        backend = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if isinstance(backend, Backend) and (why := backend.why_unavailable()):
            item.user_properties.append((NOT_TESTED, f"{backend} ({why})"))  # travels from a worker to the controller


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    counts = Counter(
        value for report in skipped for name, value in getattr(report, "user_properties", ()) if name == NOT_TESTED
    )
    if counts:
        terminalreporter.section("NOT TESTED")
        for backend, n in counts.items():
            terminalreporter.line(f"NOT TESTED: {backend}: {n} tests")
    if left_out := [str(b) for b in Backend if b not in selected()]:
        terminalreporter.line(f"left out by ANYOPS_BACKENDS: {', '.join(left_out)}")


@pytest.fixture
def backend(request):
    """Each backend in turn, with its settings in force."""
    with request.param.active():
        yield request.param


@pytest.fixture
def transform(request):
    """Each transform that the backend has and the mark allows."""
    return request.param


@pytest.fixture
def xp(backend):
    """The namespace of the backend."""
    return backend.xp


@pytest.fixture
def run(backend, transform):
    """Calls an op with host arrays on the backend under the transform."""
    return Run(backend, transform)
