"""Support vector machines, for data larger than memory."""

from daskml_core.svm._display import DecisionRegionDisplay
from daskml_core.svm._linear import LinearSVC, LinearSVR

__all__ = ["DecisionRegionDisplay", "LinearSVC", "LinearSVR"]
