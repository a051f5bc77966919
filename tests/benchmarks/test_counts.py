"""The counted work of a call, which is the same on every machine."""

import counts
import pytest

import anyops


def test_every_op_is_counted():
    assert {*counts.OPS, *counts.MERGES} == set(anyops.support())


def test_functions_that_a_call_calls():
    def inner():
        return len([])

    def outer():
        return inner(), inner()

    assert counts.python_calls(outer) == 3


def test_operations_that_torch_dispatches():
    torch = pytest.importorskip("torch")
    x = torch.arange(4)
    assert counts.torch_operations(lambda: (x + 1) * 2) == {"operations": 2, "waits": 0}
    found = counts.torch_operations(lambda: torch.nonzero(x)[int(x.sum() > 3)])
    assert found["waits"] == 2  # a length, and a value


@pytest.mark.parametrize("op", ["nms", "batch_norm", "minibatch_kmeans", "kmeans_merge"])
def test_counts_are_the_same_again(op):
    library = counts.numpy_library()
    first, second = (counts.python_calls(counts.prepared(op, library, counts.FEW)) for _ in range(2))
    assert 5 < first == second


def test_libraries_that_are_absent_are_left_out(monkeypatch, capsys):
    def absent():
        raise ImportError("no such library")

    for name in ("anyops torch", "anyops jax"):
        monkeypatch.setitem(counts.LIBRARIES, name, absent)
    monkeypatch.setattr(counts, "torch_library", absent)
    found = counts.count("box_area")
    assert found == {"op": "box_area", "calls": {"anyops numpy": found["calls"]["anyops numpy"]}}
    counts.print_counts([found])
    assert "calls: box_area: numpy " in capsys.readouterr().out
