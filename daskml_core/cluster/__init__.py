"""Clustering: k-means for data that need not fit in memory."""

from daskml_core.cluster._bisecting import BisectingKMeans
from daskml_core.cluster._display import KMeansSearchDisplay
from daskml_core.cluster._kmeans import KMeans
from daskml_core.cluster._map import ClusterMapDisplay
from daskml_core.cluster._minibatch import MiniBatchKMeans
from daskml_core.cluster._search import KMeansSearch

__all__ = ["BisectingKMeans", "ClusterMapDisplay", "KMeans", "KMeansSearch", "KMeansSearchDisplay", "MiniBatchKMeans"]
