"""Support vector machines, linear and kernel, solved exactly and certified by a duality gap."""

from daskml_core.svm._display import DecisionRegionDisplay
from daskml_core.svm._kernel import SVC, SVR, OneClassSVM
from daskml_core.svm._linear import LinearSVC, LinearSVR

__all__ = ["SVC", "SVR", "DecisionRegionDisplay", "LinearSVC", "LinearSVR", "OneClassSVM"]
