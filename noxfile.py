"""Sessions: `nox` runs lint, types, the site, all tests that a CPU can run, and the NumPy tests on the built wheel."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "docs", "tests", "package"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
TEST = nox.project.dependency_groups(PYPROJECT, "test")
DETECTOR = ("-r", "examples/detector/requirements.txt")
EVERYTHING = ("-e.[torch,jax,dask,onnx,sklearn,cli]", *DETECTOR, "array-api-strict", "distributed", "pandas", "polars")
# Each worker starts with its half of the tests, because tests of one file share compiled programs.
PYTEST = ("pytest", "-n", "2", "--dist", "worksteal", "-q")
# One worker per core. With more threads, BLAS and OpenMP would mostly wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# XLA compiles in half the time without its newer CPU emitters, and without splitting. AVX only, because with AVX2 the
# older emitters make a derivative infinite. `nox -s jax` uses XLA's defaults. JAX 0.12 aborts at the first flag.
COMPILED_SOON = {
    "XLA_FLAGS": " ".join(
        (
            "--xla_cpu_use_fusion_emitters=false",
            "--xla_cpu_parallel_codegen_split_count=1",
            "--xla_cpu_max_isa=AVX",
        )
    )
}
ALL_LIBRARIES = ONE_THREAD | COMPILED_SOON

LARGEST_WHEEL = 500_000  # bytes
SLOWEST_IMPORT = 0.5  # seconds in addition to NumPy, on any machine
IMPORTED = f"""
import time, numpy
start = time.process_time()
import anyops
seconds = time.process_time() - start
print(f"import anyops takes {{1e3 * seconds:.0f}} ms beside NumPy")
assert seconds < {SLOWEST_IMPORT}, seconds
"""

# session: what is installed in addition to NumPy, and the backends that must then be present
ALONE = {
    "numpy": (["."], "numpy,numpy:readonly"),
    "strict": ([".", "array-api-strict"], "strict,strict:strictest"),
    "torch": ([".[torch,onnx]"], "torch:cpu"),
    "jax": ([".[jax]"], "jax:cpu,jax:x64"),
    "cupy": ([".[cupy]"], "cupy"),
    "dask": ([".[dask]", "distributed"], "dask"),
}


def install(session: nox.Session, *packages: str) -> None:
    session.install("-c", "constraints.txt", *packages)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and formatting."""
    install(session, *nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, in an environment without extras, except the command's libraries."""
    install(session, "-e.[cli]", *nox.project.dependency_groups(PYPROJECT, "types"))
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, on every backend that a CPU can run; absent ones are listed at the end."""
    install(session, *EVERYTHING, *TEST)
    session.run(*PYTEST, *session.posargs, env=ALL_LIBRARIES)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site in build/site; warnings are errors. `nox -s docs -- serve` serves it while pages are edited."""
    install(session, *nox.project.dependency_groups(PYPROJECT, "docs"))
    session.run("mkdocs", *(session.posargs or ["build"]), "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def coverage(session: nox.Session) -> None:
    """The same tests, listing lines that no test reaches; fails if fewer than 95 % of the lines are reached."""
    install(session, *EVERYTHING, *TEST)
    report = ("--cov=anyops", "--cov-report=term-missing:skip-covered")
    session.run(*PYTEST, *report, *session.posargs, env=ALL_LIBRARIES)


def only(backends: str) -> dict[str, str]:
    """Environment for tests on some backends, which must all be present."""
    return {"ANYOPS_BACKENDS": backends, "ANYOPS_REQUIRE_BACKENDS": backends, **ONE_THREAD}


def alone(name: str) -> None:
    packages, required = ALONE[name]

    @nox.session(name=name)
    def session_(session: nox.Session) -> None:
        install(session, *packages, *TEST)
        session.run(*PYTEST, *(session.posargs or ["tests"]), env=only(required))

    session_.__doc__ = f"The matrix of {required} in an environment without other array libraries."


for name in ALONE:
    alone(name)


@nox.session
def package(session: nox.Session) -> None:
    """Build and check the source distribution and the wheel; run the NumPy tests on that wheel, with nothing else."""
    install(session, "build", "twine")
    made = Path(session.create_tmp(), "dist")
    shutil.rmtree(made, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(made), silent=True)
    session.run("twine", "check", "--strict", *map(str, made.iterdir()))
    (wheel,) = made.glob("*.whl")
    if wheel.stat().st_size > LARGEST_WHEEL:
        session.error(f"{wheel.name} has {wheel.stat().st_size} bytes, but should have at most {LARGEST_WHEEL}")
    empty = Path(session.create_tmp(), "empty")
    session.run("python", "-m", "venv", "--clear", str(empty))
    python = str(empty / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", "-c", "constraints.txt", str(wheel), *TEST, external=True)
    session.run(python, "-c", IMPORTED, external=True)
    tests = session.posargs or ["tests"]
    session.run(python, "-m", *PYTEST, *tests, env=only("numpy,numpy:readonly") | {"PYTHONPATH": ""}, external=True)


@nox.session
def oldest(session: nox.Session) -> None:
    """The tests with the oldest supported versions of NumPy, array-api-compat, PyTorch and JAX."""
    project = PYPROJECT["project"]
    extras = [name for extra in ("torch", "jax") for name in project["optional-dependencies"][extra]]
    session.install(*(name.replace(">=", "==") for name in (*project["dependencies"], *extras)), *TEST)
    session.install("--no-deps", ".")
    session.run(*PYTEST, *(session.posargs or ["tests"]), env=only("numpy,numpy:readonly,torch:cpu,jax:cpu"))


@nox.session(python=["3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """All tests with the newest version of everything, on newer versions of Python."""
    session.install(*EVERYTHING, *TEST)
    session.run(*PYTEST, *session.posargs, env=ONE_THREAD)


@nox.session
def programs(session: nox.Session) -> None:
    """Every op in every program that docs/support.md names: loops, meshes, graphs, exported models."""
    install(session, *EVERYTHING, *TEST)
    tests = ("tests/test_programs.py", "tests/test_export.py")
    every = {"ANYOPS_PROGRAMS": "all", "ANYOPS_BACKENDS": "torch:cpu,jax:cpu"}
    session.run(*PYTEST, *tests, *session.posargs, env=ALL_LIBRARIES | every)


@nox.session
def fuzz(session: nox.Session) -> None:
    """The properties of every family with many random examples, on NumPy, torch and JAX: minutes to hours."""
    install(session, *EVERYTHING, *TEST)
    properties = ("tests/test_fuzz.py", "tests/suppression/test_properties.py")
    session.run(*PYTEST, *properties, "--hypothesis-profile=fuzz", *session.posargs, env=ONE_THREAD)


@nox.session
def dropin(session: nox.Session) -> None:
    """Facts about torchvision and other libraries, tested on them and on anyops, in an environment that has them."""
    test = [name for name in TEST if "cov" not in name]
    session.install(".", *test, *nox.project.dependency_groups(PYPROJECT, "dropin"))
    tests = ("tests/test_drop_in.py", "tests/test_peers.py", "tests/test_rotated.py")
    session.run(*PYTEST, *tests, *session.posargs, env=ONE_THREAD)
    session.run("python", "examples/drop_in.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmark the ops and other libraries in one process and one run; writes the table of docs/performance.md."""
    session.install("-r", "benchmarks/requirements.txt", ".")
    session.run("python", "benchmarks/run.py", *session.posargs)
    session.run("python", "benchmarks/report.py")
