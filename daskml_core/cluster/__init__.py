"""Clustering: k-means for data that need not fit in memory."""

from daskml_core.cluster._bisecting import BisectingKMeans
from daskml_core.cluster._kmeans import KMeans
from daskml_core.cluster._minibatch import MiniBatchKMeans

__all__ = ["BisectingKMeans", "KMeans", "MiniBatchKMeans"]
