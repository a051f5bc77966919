"""A detector of handwritten digits whose every step is an op of anyops, on any array library.

A codebook of strokes and sizes of windows by k-means (`codebook`), features of windows (`windows`), batch norm and a
classifier by logistic regression and by the focal loss (`training`, `imbalance`), sliding windows (`detector`), all
variants of suppression (`methods`). Besides, the noisy pages (`scenes`), COCO's AP (`evaluate`), pictures (`picture`),
the page that shows them (`report`), and the steps in order (`run`).
"""
