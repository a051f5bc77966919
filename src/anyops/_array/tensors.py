"""The classes and dtypes of torch, registered when a tensor is first seen.

``torch.compile`` compiles a function again if a table that it read has changed. It runs imports while it traces, so
the tables are complete before it reads them.
"""

import array_api_compat.torch as xp
import torch

from .namespace import KINDS, NAMESPACES, STANDARD_DTYPES

NAMESPACES.update(dict.fromkeys((torch.Tensor, torch.nn.Parameter), xp))
KINDS.update(
    ((xp.__name__, dtype), kind)
    for dtype in (getattr(torch, name) for name in STANDARD_DTYPES)
    for kind in ("bool", "integral", "real floating")
    if xp.isdtype(dtype, kind)
)
