"""Sessions: `nox` runs lint, types, all tests that a CPU can run, and those of NumPy with nothing else installed."""

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests", "numpy"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
TEST = nox.project.dependency_groups(PYPROJECT, "test")
EVERYTHING = ("-e.[torch,jax,dask,onnx,sklearn,cli,demo]", "array-api-strict", "distributed")
PYTEST = ("pytest", "-n", "2", "-q")

# session: what is installed beside NumPy, and the backends that may not be absent then
ALONE = {
    "numpy": (["."], "numpy,numpy:readonly"),
    "strict": ([".", "array-api-strict"], "strict,strict:strictest"),
    "torch": ([".[torch]"], "torch:cpu"),
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
    """Mypy, on what a user has without extras, and the command's libraries."""
    install(session, "-e.[cli]", *nox.project.dependency_groups(PYPROJECT, "types"))
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, on every backend that a CPU can run; absent ones are listed at the end."""
    install(session, *EVERYTHING, *TEST)
    session.run(*PYTEST, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The same, with the lines that no test reaches."""
    install(session, *EVERYTHING, *TEST)
    session.run(*PYTEST, "--cov=anyops", "--cov-report=term-missing:skip-covered", *session.posargs)


def alone(name: str) -> None:
    packages, required = ALONE[name]

    @nox.session(name=name)
    def session_(session: nox.Session) -> None:
        install(session, *packages, *TEST)
        only = {"ANYOPS_BACKENDS": required, "ANYOPS_REQUIRE_BACKENDS": required}
        session.run(*PYTEST, *(session.posargs or ["tests"]), env=only)

    session_.__doc__ = f"The matrix of {required} in an environment that holds no other array library."


for name in ALONE:
    alone(name)


@nox.session
def bench(session: nox.Session) -> None:
    """The ops beside their peers, in one process and one run; writes the table of docs/performance.md."""
    session.install("-r", "benchmarks/requirements.txt", ".")
    session.run("python", "benchmarks/run.py", *session.posargs)
    session.run("python", "benchmarks/report.py")
