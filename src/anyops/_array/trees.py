"""Registration of fit results as JAX pytrees."""

from functools import cache

from .namespace import Namespace, library


def pass_through_trees(xp: Namespace, cls: type) -> None:
    """Register a class so that ``jax.tree.map`` passes its values through unchanged, not as leaves to be mapped."""
    if library(xp) == "jax":
        _register(cls)


@cache
def _register(cls: type) -> None:
    import jax

    jax.tree_util.register_static(cls)
