"""Each example runs in a short form, and so do the scripts that draw the pictures of the docs."""

import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest

from tests import reference

ROOT = Path(__file__).parents[1]


def script(path):
    """Import a script of the repository as a module; skip in a distribution without it."""
    if not (ROOT / path).exists():
        pytest.skip(f"{path} is not here")
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_train_digits(tmp_path, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curves.png"
    runs = script("examples/train_digits.py").main(["--epochs", "3", "--plot", str(picture)])
    first = runs["numpy"]
    assert first.losses[-1] < 0.1 * first.losses[0]
    for name, run in runs.items():
        assert run.accuracy > 0.95, name
        np.testing.assert_allclose(run.losses, first.losses, atol=1e-5, err_msg=name)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"{first.accuracy:.1%} held out" in capsys.readouterr().out


def test_train_digits_on_one_library():
    pytest.importorskip("sklearn")
    assert list(script("examples/train_digits.py").main(["--backend", "numpy", "--epochs", "1"])) == ["numpy"]


def test_bootstrap_of_a_logistic_regression(capsys):
    found = script("examples/bootstrap_logistic.py").main(["--resamples", "60"])
    for name, errors in found.items():
        np.testing.assert_allclose(errors.information, found["numpy"].information, rtol=1e-3, err_msg=name)
        np.testing.assert_allclose(errors.bootstrap, found["numpy"].bootstrap, rtol=1e-2, err_msg=name)
        np.testing.assert_allclose(errors.bootstrap, errors.information, rtol=0.4, err_msg=name)
    assert "60 fits" in capsys.readouterr().out


@pytest.fixture(scope="module")
def postprocess():
    """The example, a small head, and the expected detections, computed without anyops."""
    module = script("examples/postprocess.py")
    sizes, head = module.Sizes(20, 8), module.raw_head(3, cells=(15, 8, 3), classes=8, objects=9)
    return module, sizes, head, definition(module, head, sizes)


def definition(module, head, sizes):
    """The definition, image by image and box by box, in float64."""
    found = []
    for image, (x, y, width, height, *probabilities) in enumerate(head.astype(np.float64)):
        classes, scores = np.argmax(probabilities, axis=0), np.max(probabilities, axis=0)
        boxes, kept = np.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), axis=1), []
        for i in np.argsort(-scores, kind="stable")[: sizes.best].tolist():
            alike = [reference.overlap(boxes[i], boxes[k]) for k in kept if classes[k] == classes[i]]
            if scores[i] > module.LEAST and not any(o > module.OVERLAP for o in alike):
                kept.append(i)
        for i in kept[: sizes.kept]:
            box = (boxes[i] - [0, 140, 0, 140]) * 2
            found.append((image, np.clip(box, 0, [1280, 720, 1280, 720]), scores[i], classes[i]))
    return tuple(map(np.asarray, zip(*found, strict=True)))


def check_found(found, want):
    for got, expected, rtol in zip(found, want, (0, 1e-6, 1e-6, 0), strict=True):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-6 * 1280 if rtol else 0)


def test_postprocess_of_the_test_decides(postprocess):
    module, sizes, head, (images, boxes, _, classes) = postprocess
    above = np.sum(head[:, 4:].max(axis=1) > module.LEAST, axis=1)
    assert above.min() < sizes.best < above.max()
    assert np.bincount(images).min() < sizes.kept == np.bincount(images).max()
    assert len(images) < np.sum(above) / 2
    assert len(np.unique(classes)) > 3
    assert np.any(boxes == 0)
    assert np.any(boxes[:, 3] == 720)


@pytest.mark.parametrize("name", ["NumPy, `listed`", "NumPy", "jax.jit", "torch.compile"])
def test_postprocess(postprocess, name):
    module, sizes, head, want = postprocess
    way, needs = module.WAYS[name]
    for library in needs:
        pytest.importorskip(library)
    options = {"compiler": "eager"} if name == "torch.compile" else {}
    check_found(module.by_image(way(head, sizes, **options)(head)), want)


def test_postprocess_as_a_model_of_onnx(postprocess, tmp_path):
    """One model for three batch sizes and two numbers of locations."""
    module, sizes, head, _ = postprocess
    for library in ("torch", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    module.exported(head, sizes).save(tmp_path / "model.onnx")
    run = module.run_by_onnx(tmp_path / "model.onnx")
    for images, cells in ((1, (15, 8, 3)), (2, (13, 6, 4)), (5, (13, 6, 4))):
        head = module.raw_head(images, cells=cells, classes=8, objects=9, seed=images)
        check_found(module.by_image(run(head)), definition(module, head, sizes))


def test_postprocess_is_what_the_page_shows(postprocess):
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    module = postprocess[0]
    for name in ("detections", "decoded", "taken", "in_picture", "listed"):
        assert inspect.getsource(getattr(module, name)) in page, name


def test_postprocess_as_a_script(capsys):
    found = script("examples/postprocess.py").main(["--images", "1", "--only", "NumPy, `listed`", "NumPy"])
    check_found(*found.values())
    said = capsys.readouterr().out
    assert "decode" in said
    assert f"{len(found['NumPy'][0])} boxes in" in said


@pytest.fixture
def detector():
    """Import a step of the detector from its file."""
    for name in ("sklearn", "pycocotools"):
        pytest.importorskip(name)
    return lambda name: script(f"examples/detector/{name}.py")


def test_detector_step_by_step(detector, tmp_path, capsys):
    small = ["--folder", str(tmp_path / "steps"), "--scenes", "1", "--training-scenes", "1"]
    for name in ("01_codebook", "02_windows", "03_train", "04_detect", "05_suppress"):
        detector(name).main(small)
    table = detector("06_evaluate").main(small)
    out = capsys.readouterr().out
    for (loss, name), precision in table.items():
        assert f"{loss:14} {name:16}  {precision.ap:.3f}" in out
        assert 0.1 < precision.ap < precision.ap50 < 1
    assert "24 strokes" in out


def test_steps_of_the_detector_need_those_before(detector, tmp_path):
    with pytest.raises(SystemExit, match=r"codebook.npz does not exist: run the earlier steps"):
        detector("04_detect").main(["--folder", str(tmp_path)])


def test_plot_of_focal_loss(tmp_path):
    pytest.importorskip("matplotlib")
    script("docs/plot_focal.py").draw(tmp_path / "focal.png")
    assert (tmp_path / "focal.png").read_bytes().startswith(b"\x89PNG")


def test_plot_of_separation(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    plot = script("docs/plot_separation.py")
    monkeypatch.setattr(plot, "SLOPES", np.linspace(0.0, 12.0, 5))
    plot.draw(tmp_path / "separation.png")
    assert (tmp_path / "separation.png").read_bytes().startswith(b"\x89PNG")
