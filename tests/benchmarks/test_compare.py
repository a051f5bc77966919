"""The comparison of two files of results."""

import copy
import json

import compare
import pytest


@pytest.fixture
def slower(small):
    """The same run with one time doubled, one halved, one gone, and another NumPy."""
    data = copy.deepcopy(small)
    data["cases"][0]["results"]["anyops numpy"].update(seconds=0.0208, ratio=1.5)
    data["cases"][1]["results"]["anyops numpy"].update(seconds=0.001, ratio=26.0)
    del data["cases"][0]["results"]["anyops torch"]
    data["versions"]["numpy"] = "2.5.0"
    return data


def write(tmp_path, *files):
    paths = [tmp_path / f"{number}.json" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_text(json.dumps(data))
    return [str(path) for path in paths]


@pytest.mark.parametrize("ratios", [False, True])
def test_changes_are_sorted_worst_first(small, slower, ratios):
    changes, alone = compare.compare(small, slower, ratios=ratios)
    assert [(change.what, pytest.approx(change.factor)) for change in changes] == [
        ("clustered-10k, anyops numpy", 2.0),
        ("aerial-1M, anyops numpy, memory", 1.0),
        ("iou-2000x2000, anyops numpy", 0.5),
    ]
    assert alone == ["clustered-10k, anyops torch"]


def test_command_tells_and_fails(tmp_path, small, slower, capsys):
    assert compare.main(write(tmp_path, small, slower)) == 1
    told = capsys.readouterr().out
    assert "clustered-10k, anyops numpy: 0.0104 -> 0.0208  (+100%)" in told
    assert "better by more than 25 %: 1 of 3" in told
    assert "numpy: 2.4.6 -> 2.5.0" in told


def test_growth_of_what_is_counted(small):
    small["cases"][0]["results"]["anyops numpy"].update(calls=50)
    small["counts"] = [{"op": "nms", "calls": {"anyops jax": 100}, "operations": 300, "waits": 0}]
    more = copy.deepcopy(small)
    more["cases"][0]["results"]["anyops numpy"].update(calls=75)
    more["counts"] = [{"op": "nms", "calls": {"anyops jax": 400}, "operations": 600, "waits": 3}]
    changes, alone = compare.compare(small, more, ratios=True)
    assert [(change.what, change.factor) for change in changes[:3]] == [
        ("nms, anyops jax, calls", 4.0),
        ("nms, torch, operations", 2.0),
        ("clustered-10k, anyops numpy, calls", 1.5),
    ]
    assert alone == ["nms, torch, waits"]  # none before


def test_threshold(tmp_path, small, slower):
    assert compare.main([*write(tmp_path, small, slower), "--slower", "150"]) == 0


def test_nothing_changed(tmp_path, small, capsys):
    assert compare.main(write(tmp_path, small, small)) == 0
    assert "worse by more than 25 %: 0 of 4" in capsys.readouterr().out
