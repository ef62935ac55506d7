"""Linear models with scikit-learn's names, defaults and objectives, for data larger than memory."""

from daskml_core.linear_model._cv import ElasticNetCV, LassoCV, LogisticRegressionCV, RidgeCV
from daskml_core.linear_model._display import CoefficientPathDisplay
from daskml_core.linear_model._glm import PoissonRegressor
from daskml_core.linear_model._huber import HuberRegressor
from daskml_core.linear_model._least_squares import ElasticNet, Lasso, LinearRegression, Ridge
from daskml_core.linear_model._logistic import LogisticRegression
from daskml_core.linear_model._sgd import SGDClassifier, SGDRegressor

__all__ = [
    "CoefficientPathDisplay",
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lasso",
    "LassoCV",
    "LinearRegression",
    "LogisticRegression",
    "LogisticRegressionCV",
    "PoissonRegressor",
    "Ridge",
    "RidgeCV",
    "SGDClassifier",
    "SGDRegressor",
]
