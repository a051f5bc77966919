"""Registration of fit results as JAX pytrees."""

from functools import cache

from .namespace import Namespace, library


def pass_through_trees(xp: Namespace, cls: type) -> None:
    """Let ``jax.tree.map`` pass values of a class on as they are, beside arrays of JAX: not as leaves to be mapped."""
    if library(xp) == "jax":
        _register(cls)


@cache
def _register(cls: type) -> None:
    import jax

    jax.tree_util.register_static(cls)
