"""String options: the types for editors, the documentation and the checks have the same list of choices."""

import importlib.util
import re
from inspect import signature
from typing import Literal, get_args, get_origin

import pytest

import anyops
from anyops.boxes import regions
from tests.test_inputs import BOXES, arrays_of


def words_of(annotation):
    """The strings among the types of a parameter."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for part in get_args(annotation) for word in words_of(part)]


OPTIONS = [
    (name, parameter.name, words)
    for name in anyops.support()
    for parameter in signature(getattr(anyops, name)).parameters.values()
    if (words := words_of(parameter.annotation))
]
Y = [0, 1, 0, 1, 0]
IN_DOC = re.compile(r"^ *(\w+(?:, \w+)*) : (?:.*?)\{(\".*?)\}", re.MULTILINE)


def is_of_words(parameter):
    return isinstance(parameter.default, str) or str in (parameter.annotation, *get_args(parameter.annotation))


def test_every_option_of_words_has_a_type():
    for name in anyops.support():
        for parameter in signature(getattr(anyops, name)).parameters.values():
            assert words_of(parameter.annotation) or not is_of_words(parameter), f"{name}: {parameter.name}"
    assert {word for *_, words in OPTIONS for word in words} > {"giou", "xyxyxyxy", "lbfgs", "cosine", "median", "max"}


@pytest.mark.parametrize(("name", "option", "words"), OPTIONS, ids=[f"{n}-{o}" for n, o, _ in OPTIONS])
def test_types_are_what_is_checked(name, option, words):
    """The choices in the error message are those of the type; for kinds, which depend on `fmt`, those of boxes."""
    with pytest.raises((TypeError, ValueError), match=rf"\b{option} must be ") as error:
        getattr(anyops, name)(**arrays_of(name)[1] | {option: "Nonsense"})
    listed = re.search(r"must be (?:one of )?(.*?)(?: or an array| for fmt=.*|, because .*)?, got", str(error.value))[1]
    if option not in ("n_init", "class_weight"):
        assert set(re.split(", | or ", listed)) - {"None"} == set(words) - {"probiou"}


def test_the_documentation_has_the_same_words():
    seen = 0
    for name, option, words in OPTIONS:
        for names, listed in IN_DOC.findall(getattr(anyops, name).__doc__):
            if option in names.split(", "):
                assert set(re.findall(r'"(.*?)"', listed)) == set(words), f"{name}: {option}"
                seen += 1
    assert seen > 20


def test_formats_and_kinds():
    assert tuple(regions.FORMATS) == get_args(regions.RegionFormat)
    kinds = {kind for form in regions.FORMATS.values() for kind in form.geometry.kinds}
    assert kinds == set(get_args(regions.OverlapKind))
    for fmt, form in regions.FORMATS.items():
        for kind in set(get_args(regions.OverlapKind)) - set(form.geometry.kinds):
            with pytest.raises(ValueError, match=f"kind must be one of .* for fmt='{fmt}', got '{kind}'"):
                anyops.box_iou(BOXES, BOXES, kind=kind, fmt=fmt)


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_words_of_estimators():
    from anyops import estimators

    assert set(get_args(estimators.SolverByName)) == set(estimators.SOLVER_BY_NAME)
    for cls in (estimators.KMeans, estimators.LogisticRegression):
        for option, parameter in signature(cls.__init__).parameters.items():
            if option != "init" and (words_of(parameter.annotation) or is_of_words(parameter)):
                assert words_of(parameter.annotation), option
                with pytest.raises((TypeError, ValueError), match=rf"{option} must be"):
                    cls(**{"n_clusters": 2} if cls is estimators.KMeans else {}, **{option: "Nonsense"}).fit(BOXES, Y)


def test_help_lists_every_function_once():
    listed = re.findall(r"^    (\w+)  +\S", anyops.__doc__, re.MULTILINE)
    functions = [n for n in anyops.__all__ if callable(f := getattr(anyops, n)) and not isinstance(f, type)]
    assert sorted(listed) == sorted(functions)
