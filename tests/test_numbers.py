"""Numeric options: Python and NumPy numbers, 0-d arrays, or symbolic numbers of a compiler."""

from inspect import signature

import numpy as np
import pytest

import anyops
from tests.backends import Backend, Transform, compile_fullgraph, named_in, why_not
from tests.test_inputs import arrays_of

# A valid number that every float represents, and an invalid one.
NUMBERS = {
    "iou_threshold": (0.375, -0.5),
    "overlap_threshold": (0.375, 1.5),
    "score_threshold": (0.25, -0.5),
    "sigma": (0.375, 0.0),
    "alpha": (0.375, 1.5),
    "gamma": (1.75, -0.5),
    "pos_weight": (1.75, -0.5),
    "label_smoothing": (0.125, 1.5),
    "momentum": (0.75, np.inf),
    "eps": (0.125, -0.5),
    "correction": (1.0, -0.5),
    "l1": (0.125, -0.5),
    "l2": (0.25, -0.5),
    "tol": (0.125, -0.5),
    "ratio": (2.0, 0.5),
}
# Options for which the numbers have an effect.
BESIDE = {
    "soft_nms": ({}, {"decay": "linear"}),
    "soft_nms_scores": ({}, {"decay": "linear"}),
    "batch_norm": ({"training": True},),
    **dict.fromkeys(("cluster_nms", "cluster_nms_scores"), ({"penalty": "score"},)),
    **dict.fromkeys(("weighted_cluster_nms", "weighted_cluster_nms_boxes"), ({}, {"penalty": "score"})),
}
OTHERS = {"size", "sigmas", "model_weights", "class_weight", "callback"}  # options with several numbers
FITS = {"logistic_regression", "kmeans", "minibatch_kmeans", "anchor_boxes"}


def numbers_of(name):
    """The numeric options of an op."""
    parameters = signature(getattr(anyops, name)).parameters.values()
    return [p.name for p in parameters if "float" in str(p.annotation) and p.name not in OTHERS]


OPS = [name for name in anyops.support() if numbers_of(name)]
STATIC = [name for name in OPS if why_not(name, Backend.JAX_CPU, Transform.JIT) is None]
CASES = [(name, beside) for name in OPS if name not in FITS for beside in BESIDE.get(name, ({},))]


def test_every_number_is_tried():
    assert {option for name in OPS for option in numbers_of(name)} == NUMBERS.keys()


def of_numbers(place, name, beside):
    """The parts of a result as a function of the numbers; arrays are on the given backend."""

    def there(x):
        return [there(y) for y in x] if isinstance(x, list) else place.asarray(x) if type(x) is np.ndarray else x

    given = {k: there(x) for k, x in arrays_of(name)[1].items()}
    op, options = getattr(anyops, name), numbers_of(name)

    def f(*numbers):
        got = op(**(given | beside | dict(zip(options, numbers, strict=True))))
        return got if isinstance(got, tuple) else (got,)

    return f


def call(place, name, beside, **numbers):
    """The parts of a result."""
    return of_numbers(place, name, beside | numbers)(*({k: NUMBERS[k][0] for k in numbers_of(name)} | numbers).values())


def equal(place, got, want):
    for a, b in zip(got, want, strict=True):
        if a is b is None:
            continue
        np.testing.assert_allclose(place.to_numpy(a), place.to_numpy(b), rtol=2e-6, atol=1e-6)


@pytest.fixture(params=[Backend.NUMPY, Backend.STRICT, Backend.TORCH_CPU, Backend.JAX_CPU], ids=str)
def place(request):
    if why := request.param.why_unavailable():
        pytest.skip(why)
    with request.param.active():
        yield request.param


@pytest.mark.parametrize("name", OPS)
def test_what_is_a_number(place, name):
    """All kinds of concrete numbers give the same result, and invalid ones the same error."""
    kinds = {
        "scalar": np.float32,
        "array of NumPy": np.array,
        "array": lambda x: place.asarray(np.array(x, np.float32)),
    }
    options = numbers_of(name)
    for beside in BESIDE.get(name, ({},)) if name not in FITS else ():
        want = call(place, name, beside, **{k: NUMBERS[k][0] for k in options})
        for make in kinds.values():
            equal(place, call(place, name, beside, **{k: make(NUMBERS[k][0]) for k in options}), want)
    for option in options:
        wrong = NUMBERS[option][1]
        for make in (float, *kinds.values()):
            with pytest.raises(ValueError, match=rf"^{option} must be .*, got {wrong}"):
                call(place, name, {}, **{option: make(wrong)})
        for value in ("1", True, np.array([0.5]), place.asarray(np.array([0.5], np.float32)), np.array(True)):
            if option in ("alpha", "pos_weight") and hasattr(value, "ndim") and value.ndim:
                continue  # weights of classes
            with pytest.raises(TypeError, match=rf"^{option} must (be a number|have a .* dtype), got"):
                call(place, name, {}, **{option: value})


# logistic_step takes JAX half a minute to compile
@pytest.mark.parametrize(
    ("name", "beside"), [case for case in CASES if case[0] in {*STATIC} - {"logistic_step"}], ids=str
)
def test_numbers_that_jax_traces(name, beside):
    """Under a vmap in a jit; boxes, logits and samples are constants."""
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    options = numbers_of(name)
    with Backend.JAX_CPU.active():
        lanes = np.float32([[NUMBERS[k][0] for k in options], [NUMBERS[k][0] / 2 for k in options]])
        f = of_numbers(Backend.JAX_CPU, name, beside)
        got = jax.jit(jax.vmap(f))(*map(Backend.JAX_CPU.asarray, lanes.T))
        for k, lane in enumerate(lanes.tolist()):
            equal(Backend.JAX_CPU, [x[k] for x in got], f(*lane))


VALUES = (1.0, 0.75, 0.5, 0.875)  # factors for each number
# One op of each kind of kernel, in `nox -s torch` of each kernel: the other ops pass the same numbers to the kernel.
KERNELS = {"nms_mask", "soft_nms_scores", "sigmoid_focal_loss", "batch_norm"}
if Backend.TORCH_CPU in named_in("ANYOPS_BACKENDS"):
    KERNELS |= {
        *("cluster_nms_scores", "matrix_nms_scores", "weighted_boxes_fusion_padded"),
        *("top_scores", "softmax_focal_loss", "logistic_loss"),
    }


@pytest.mark.parametrize(("name", "beside"), [case for case in CASES if case[0] in KERNELS], ids=str)
def test_numbers_that_torch_compiles(name, beside):
    """One graph, compiled at most twice for four Python numbers, once for tensors."""
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)
    import torch
    from torch._dynamo.testing import CompileCounter

    f = of_numbers(Backend.TORCH_CPU, name, beside)
    values = [[NUMBERS[k][0] * share for k in numbers_of(name)] for share in VALUES]
    for make, most in ((float, 2), (torch.tensor, 1))[: 2 if name in ("nms_mask", "sigmoid_focal_loss") else 1]:
        graphs = CompileCounter()
        compiled = compile_fullgraph(f, graphs)
        for numbers in values:
            equal(Backend.TORCH_CPU, compiled(*map(make, numbers)), f(*numbers))
        assert graphs.frame_count <= most


@pytest.mark.parametrize(("name", "beside"), [case for case in CASES if case[0] in STATIC], ids=str)
def test_numbers_that_torch_maps(name, beside):
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)
    import torch

    f = of_numbers(Backend.TORCH_CPU, name, beside)
    values = [[NUMBERS[k][0] * share for k in numbers_of(name)] for share in VALUES[:2]]
    got = torch.func.vmap(f)(*torch.tensor(values).T)
    for k, numbers in enumerate(values):
        equal(Backend.TORCH_CPU, [x[k] for x in got], f(*numbers))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint32", "int64", "uint64"])
def test_a_threshold_of_integers(dtype):
    """Compared with integer scores as an integer, even if traced."""
    torch = pytest.importorskip("torch")
    scores, thresholds = np.array([1, 5, 7, 7, 200]).astype(dtype), [6.5, 7.0, 5.0, 300.0]
    mapped = torch.func.vmap(lambda t: anyops.top_scores(torch.asarray(scores), 5, score_threshold=t).valid)
    for make in (torch.float32, torch.int64):
        given = torch.tensor(thresholds).to(make)
        want = [anyops.top_scores(scores, 5, score_threshold=t).valid for t in given.tolist()]
        np.testing.assert_array_equal(mapped(given), want)


@pytest.mark.parametrize("name", [name for name in OPS if name not in STATIC])
def test_what_decides_a_shape_needs_a_value(name):
    """A threshold of an index op, or of a fit, cannot be traced."""
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    with Backend.JAX_CPU.active():
        for option in numbers_of(name):
            with pytest.raises(
                TypeError, match=rf"^({option} must have a known value|\w+ must have values), .*transform"
            ):
                jax.jit(lambda x, option=option: call(Backend.JAX_CPU, name, {}, **{option: x}))(NUMBERS[option][0])


def test_a_schedule_is_one_program():
    """A schedule of γ as JAX arrays: no step compiles."""
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    count = [0]
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: count.__setitem__(0, count[0] + (event == "/jax/core/compile/backend_compile_duration"))
    )
    x, t = jax.numpy.asarray([[0.5, -1.0]]), jax.numpy.asarray([[1.0, 0.0]])
    counts = []
    for gamma in np.float32([0.5, 1.0, 1.5, 2.0]):
        loss = anyops.sigmoid_focal_loss(x, t, gamma=jax.device_put(gamma))
        want = anyops.sigmoid_focal_loss(np.asarray(x), np.asarray(t), gamma=gamma)
        np.testing.assert_allclose(loss, want, rtol=2e-6)
        counts.append(count[0])
    assert counts[0] > 0
    assert counts[1:] == counts[:1] * 3


INTEGERS = ("axis", "k", "n_init", "max_iter", "n_local_trials", "max_no_improvement", "max_output", "ignore_index")


@pytest.mark.parametrize("name", anyops.support())
def test_what_is_an_integer(place, name):
    """NumPy integers and 0-d arrays work as Python integers; bools and other arrays are refused."""
    parameters = signature(getattr(anyops, name)).parameters
    options = [option for option in INTEGERS if option in parameters]
    if not options or why_not(name, place, Transform.EAGER):
        pytest.skip("no integers, or not here")
    given = arrays_of(name)[1] | ({"seed": 0} if "seed" in parameters else {})
    given = {k: [place.asarray(y) for y in x] if isinstance(x, list) else x for k, x in given.items()}
    given = {k: place.asarray(x) if type(x) is np.ndarray else x for k, x in given.items()}

    def results(**numbers):
        got = getattr(anyops, name)(**(given | numbers))
        return [x for x in (got if isinstance(got, tuple) else (got,)) if hasattr(x, "shape")]

    for option in options:
        value = 1 if option == "axis" else 2
        want = results(**{option: value})
        for make in (np.uint8, lambda x: place.asarray(np.array(x, np.int32))):
            equal(place, results(**{option: make(value)}), want)
        for wrong in (True, np.array(True), place.asarray(np.array(True)), place.asarray(np.array([1])), 1.0):
            with pytest.raises(TypeError, match=rf"^{option} must (be an integer|have an integer dtype), got"):
                results(**{option: wrong})


def test_whole_gamma_in_one_graph_after_the_fourth():
    """torch.compile makes eight graphs of a function at most."""
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)
    import torch
    from torch._dynamo.testing import CompileCounter

    x = torch.linspace(-3, 3, 12)
    graphs = CompileCounter()
    compiled = compile_fullgraph(lambda gamma: anyops.sigmoid_focal_loss(x, 1.0 * (x > 0), gamma=gamma), graphs)
    for gamma in map(float, range(12)):
        torch.testing.assert_close(compiled(gamma), anyops.sigmoid_focal_loss(x, 1.0 * (x > 0), gamma=gamma))
    assert graphs.frame_count <= 7


def test_thresholds_of_another_library_are_named():
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    boxes, scores = torch.rand(3, 4).cumsum(-1), torch.rand(3)
    with pytest.raises(TypeError, match="scores and iou_threshold must be arrays of one library"):
        anyops.nms_mask(boxes, scores, jnp.asarray(0.5))
    with pytest.raises(TypeError, match="scores and score_threshold must be arrays of one library"):
        anyops.soft_nms_scores(boxes, scores, score_threshold=jnp.asarray(0.5))
