"""Clustering: k-means for data that need not fit in memory."""

from daskml_core.cluster._kmeans import KMeans

__all__ = ["KMeans"]
