"""The mode of a call for its arrays."""

import numpy as np
import pytest

from anyops._array.mode import mode_of
from tests.backends import Backend


def facts(mode):
    return {
        name
        for name in ("known", "at_hand", "grad", "lazy", "fused", "host", "padded", "raises")
        if getattr(mode, name)
    }


@pytest.mark.parametrize(
    ("place", "want", "pieces"),
    [
        (Backend.NUMPY, "known at_hand host raises", True),
        (Backend.STRICT, "known at_hand raises", True),
        (Backend.TORCH_CPU, "known at_hand", True),
        (Backend.JAX_CPU, "known fused padded", False),
        (Backend.DASK, "lazy", False),
    ],
    ids=str,
)
def test_arrays_with_values(place, want, pieces):
    if why := place.why_unavailable():
        pytest.skip(why)
    with place.active():
        mode = mode_of(x=place.asarray(np.float32([1, 2])))
        assert facts(mode) == set(want.split())
        assert bool(mode.grain) == pieces


def torch_modes():
    """The mode in each state of torch: transforms, compilers, subclasses, autograd."""
    torch = pytest.importorskip("torch")
    x = torch.ones(3)
    leaf = torch.ones(3, requires_grad=True)
    seen = {}

    def see(name, *arrays):
        seen[name] = mode_of(**{f"x{i}": a for i, a in enumerate(arrays)})
        return arrays[0] * 1.0

    class Own(torch.Tensor):
        pass

    see("recorded", x, leaf)
    see("subclass", x.as_subclass(Own))
    with torch.no_grad():
        see("no_grad", x, leaf)
    torch.func.vmap(lambda a: see("vmap", x, a))(x)
    torch.func.grad(lambda a: see("grad", x, a).sum())(x)
    torch.func.jvp(lambda a: see("jvp", a), (x,), (x,))
    torch.jit.trace(lambda a: see("trace", a), x, check_trace=False)
    torch.compile(lambda a: see("compile", a), backend="eager")(x)
    torch.compile(lambda a: see("compile, recorded", a), backend="eager")(leaf)
    torch.func.vmap(torch.func.grad(lambda a: see("vmap of grad", a)))(x)
    return seen


@pytest.mark.filterwarnings("ignore")
def test_torch_under_its_transforms():
    seen = torch_modes()
    assert facts(seen["recorded"]) == {"known", "at_hand", "grad"}
    assert facts(seen["no_grad"]) == {"known", "at_hand"}
    assert facts(seen["vmap"]) == facts(seen["vmap of grad"]) == facts(seen["compile, recorded"]) == {"grad"}
    assert facts(seen["compile"]) == set()
    assert facts(seen["grad"]) == facts(seen["jvp"]) == {"known", "grad"}
    assert facts(seen["trace"]) == {"grad"}
    assert facts(seen["subclass"]) == {"known", "grad"}
    assert {name for name, mode in seen.items() if mode.grain} == {"no_grad"}


def test_jax_under_jit():
    jax = pytest.importorskip("jax")
    seen = []
    jax.jit(lambda x: seen.append(mode_of(x=x, y=jax.numpy.ones(2))) or x)(jax.numpy.ones(2))
    assert facts(seen[0]) == {"fused", "grad"}


def test_a_jitted_kernel_sees_no_values():
    jax = pytest.importorskip("jax")
    seen = []
    x = jax.numpy.ones(2)
    mode_of(x=x).run(lambda mode, x: seen.append(mode) or x, x)
    assert facts(seen[0]) == {"fused"}
