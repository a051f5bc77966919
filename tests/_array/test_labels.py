import numpy as np
import pytest

import anyops


def test_labels_without_an_order_are_named_by_their_types():
    y = np.asarray([1, "a", 2, 2.5], dtype=object)
    with pytest.raises(TypeError, match=r"^y must hold labels that can be ordered, got float, int, str$"):
        anyops.logistic_regression(np.arange(4.0)[:, None], y)
