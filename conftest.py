"""The test matrix: fixtures over backends and transforms, and a report of what was not tested."""

import gc
import importlib.util
import os
import re
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from tests.backends import Backend, Run, Transform, is_due, is_thinned, named_in, selected, why_not

# Set before anything imports SciPy: otherwise scikit-learn's estimator checks skip the array API.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Docstring examples that need a missing library.
collect_ignore = [] if importlib.util.find_spec("sklearn") else ["src/anyops/estimators.py"]

NOT_TESTED = "not tested"
MATRIX = tuple(t for t in Transform if t is not Transform.GRAD)  # gradients have tests of their own

hypothesis.settings.register_profile("anyops", deadline=None, derandomize=True, max_examples=60)
# `--hypothesis-profile=fuzz`: long and at random; a failure prints how to reproduce it.
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
    config.addinivalue_line("markers", "calls(*transforms): the transforms of a test whose ops are its parameters")
    config.addinivalue_line("markers", "thread_unsafe: used by some of scikit-learn's tests, which run here too")
    try:
        required, under_test = named_in("ANYOPS_REQUIRE_BACKENDS"), selected()
    except ValueError as e:
        raise pytest.UsageError(str(e)) from None
    absent = {b: b.why_unavailable() or (b not in under_test and "left out by ANYOPS_BACKENDS") for b in required}
    if lines := [f"{b} ({why})" for b, why in absent.items() if why]:
        raise pytest.UsageError(f"ANYOPS_REQUIRE_BACKENDS: cannot test {', '.join(lines)}")


def pytest_generate_tests(metafunc):
    """Run a test with `backend` on all backends, and one with `transform` under the transforms that its marks name."""
    names = [name for name in ("backend", "transform") if name in metafunc.fixturenames]
    if not names:
        return
    op, calls = map(metafunc.definition.get_closest_marker, ("op", "calls"))
    transforms = (Transform.EAGER,)
    if "transform" in names and (op or calls):
        transforms = calls.args if calls else op.kwargs.get("transforms", MATRIX)
    thin = not _is_of_dtypes(metafunc)
    cells = [(b, t) for b in selected() for t in transforms if is_due(b, t) and not (thin and is_thinned(b))]
    params = [pytest.param(*cell[: len(names)], id="-".join(map(str, cell[: len(names)]))) for cell in cells]
    metafunc.parametrize(names, params, indirect=True)


def _is_of_dtypes(metafunc):
    """Whether a test is about dtypes: a table of all ops, or a name that mentions them."""
    of_all_ops = Path(metafunc.module.__file__).parent.name == "tests"
    return of_all_ops or re.search("dtype|float64|integer|whole|digits|precision", metafunc.function.__name__)


@pytest.hookimpl(trylast=True)  # after the selection by -k and -m
def pytest_collection_modifyitems(config, items):
    """Skip, with the reason, tests that cannot run here, or that the op declares unsupported.

    If a backend is missing, only the first case of each test is kept, as a skip that counts the others.
    """
    kept, absent = [], {}
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        backend, transform = params.get("backend"), params.get("transform", Transform.EAGER)
        if not isinstance(backend, Backend):
            kept.append(item)
            continue
        op = item.get_closest_marker("op")
        # A transform that an op supports on no backend makes no skips; test_declarations_are_true checks this.
        if op and all(why_not(op.args[0], b, transform) for b in Backend if transform.belongs_to(b)):
            continue
        if why := backend.why_unavailable():
            test = item.nodeid.partition("[")[0], backend
            if test in absent:
                absent[test][1] += 1
                continue
            absent[test] = [f"{backend} ({why})", 1]
            item.user_properties.append((NOT_TESTED, absent[test]))  # travels from a worker to the controller
            item.add_marker(pytest.mark.skip(reason=f"NOT TESTED: {backend} ({why})"))
        elif op and (why := why_not(op.args[0], backend, transform)):
            item.add_marker(pytest.mark.skip(reason=f"{op.args[0]}, {backend}, {transform}: {why}"))
        kept.append(item)
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=list({*items} - {*kept}))
        items[:] = kept


def pytest_collection_finish(session):
    """Exclude the tests, which exist until the end, from garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    counts = Counter()
    for name, value in (pair for report in skipped for pair in getattr(report, "user_properties", ())):
        if name == NOT_TESTED:
            backend, count = value
            counts[backend] += count
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
