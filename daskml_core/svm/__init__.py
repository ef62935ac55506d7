"""Support vector machines for data that need not fit in memory, solved exactly and certified by a duality gap."""

from daskml_core.svm._kernel import SVC, SVR, OneClassSVM

__all__ = ["SVC", "SVR", "OneClassSVM"]
