"""The demonstration behind ``anyops demo``: an application of the library, not a part of it.

A detector of handwritten digits whose every step is an op of the library, on any array library: a codebook of strokes
and sizes of windows by k-means (`codebook`), features of windows (`windows`), batch norm and a classifier by logistic
regression and by the focal loss (`training`, `imbalance`), sliding windows (`detector`), all variants of suppression
(`methods`). Around it the noisy pages (`scenes`), COCO's AP (`evaluate`), pictures (`picture`), the page that holds
them (`report`), and the steps in order (`run`). Needs the extra ``anyops[demo]``; the scripts in ``examples/detector/``
take one step each.
"""
