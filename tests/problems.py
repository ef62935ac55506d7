"""Made problems that several tests share."""

import numpy as np


def two_classes(n=3000, d=6, seed=0, dtype=np.float64):
    """Overlapping classes with an intercept, features of different scale and offset."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.linspace(0.5, 2, d) + np.linspace(-1, 1, d)
    y = (X @ rng.normal(size=d) + 0.3 + rng.logistic(size=n) > 0).astype(int)
    return X.astype(dtype), y


def three_classes(n=1500, d=4, seed=0):
    """Three overlapping classes with string labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    scores = X @ rng.normal(size=(d, 3)) + rng.gumbel(size=(n, 3))
    return X, np.array(["ash", "birch", "cedar"])[scores.argmax(axis=1)]
