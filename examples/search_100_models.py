"""One hundred models in the sweeps of a few: logistic regressions of late flights, 20 penalties on 5 folds.

NYC flights 2013 are written to zarr once (336,776 rows), then searched without holding the data in memory. Run:
``python examples/search_100_models.py [directory]``.
"""

# %%
import sys
import time
from pathlib import Path

import numpy as np
import zarr
from flights import prepare

from daskml_core.linear_model import LogisticRegression
from daskml_core.model_selection import GridSearchCV, StratifiedKFold
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler

directory = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
store = zarr.open_group(prepare(directory / "flights.zarr"), mode="r")
X, y = store["X"], store["late"]

# %% [markdown]
# ## One model, to compare with

# %%
model = make_pipeline(StandardScaler(), LogisticRegression())
started = time.perf_counter()
model.fit(X, y)
fit_s = time.perf_counter() - started
print(f"one fit: {model[-1].n_sweeps_:.2f} sweeps")

# %% [markdown]
# ## The plan
# Each fold is scaled by its own training rows; no row is ever scaled, and none is copied. The store is sorted by date:
# shuffled folds have all months in all of them, and the rows stay where they are.

# %%
grid = {"logisticregression__C": np.logspace(-4, 4, 20)}
cv = StratifiedKFold(5, shuffle=True, random_state=0)
search = GridSearchCV(model, grid, cv=cv, scoring=["neg_log_loss", "accuracy"], refit="neg_log_loss")
print(search.plan(X, y))

# %% [markdown]
# ## The search

# %%
started = time.perf_counter()
search.fit(X, y)
search_s = time.perf_counter() - started
results = search.cv_results_
print(f"{'C':>10} {'log-loss':>10} {'accuracy':>10}")
for params, loss, accuracy in zip(
    results["params"], results["mean_test_neg_log_loss"], results["mean_test_accuracy"], strict=True
):
    print(f"{params['logisticregression__C']:10.4g} {-loss:10.6f} {accuracy:10.6f}")

# %%
print(f"best: {search.best_params_}")
print(f"100 models, their scores and the best one fitted on all rows: {search.n_sweeps_:.2f} sweeps")
print(f"{search_s:.1f} s, {search_s / fit_s:.1f} times one fit")
