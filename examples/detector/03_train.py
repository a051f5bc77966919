"""Step 3. Train a linear classifier of ten digits and the background twice.

    python examples/detector/03_train.py --backend torch

With cross-entropy, by `logistic_regression`; and with the focal loss, by L-BFGS with the closed-form gradient of
`softmax_focal_loss_and_grad`. Then print the share of each loss that comes from easy windows on no digit.
"""

from digits.imbalance import loss_shares
from digits.training import Windows, train_cross_entropy, train_focal
from steps import options


def main(argv=None):
    step = options(__doc__, argv)
    windows = Windows(**step.load("windows"))
    classifiers = {"cross-entropy": train_cross_entropy(windows), "focal": train_focal(windows)}
    shares = loss_shares(windows, classifiers["cross-entropy"])
    for (loss, found), share in zip(classifiers.items(), shares, strict=True):
        print(f"{loss:14} {found.n_iter} iterations; easy windows on no digit have {share.easy:.1%} of this loss")
        step.save(loss, coef=found.coef, intercept=found.intercept)


if __name__ == "__main__":
    main()
