"""Ten minutes: from a store to models, their plan, their predictions, and what one does with them.

Real data: 336,776 flights from New York in 2013, and fifty winters of sea surface temperature. Run:
``python examples/tour.py [directory]``; both come with ``pip install 'daskml_core[examples]'``.
"""

# %%
import importlib.util
import sys
from pathlib import Path

import dask
import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
import zarr
from flights import prepare

import daskml_core
from daskml_core.cluster import KMeans
from daskml_core.linear_model import LogisticRegression
from daskml_core.metrics import log_loss, roc_auc_score
from daskml_core.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler

directory = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
directory.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. Data that stay where they are
# `prepare` cleans the flights and writes them to zarr once: a matrix of features and whether the flight arrived more than 15
# minutes late. From here on the data are read in chunks; nothing below holds them as a whole.

# %%
store = zarr.open_group(prepare(directory / "flights.zarr"), mode="r")
X, y = da.from_zarr(store["X"]), da.from_zarr(store["late"])
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
X_train

# %% [markdown]
# ## 2. The plan, before anything is read
# How many blocks, how many bytes a sweep over the data reads, how much memory a process will take at most. With a limit that
# cannot be kept the fit is refused here, with the number that would do.

# %%
model = make_pipeline(StandardScaler(), LogisticRegression())
with dask.config.set({"daskml-core.memory-limit": "1 GiB"}):
    print(LogisticRegression().plan(X_train, y_train))

# %% [markdown]
# ## 3. A fit
# The same objective and the same `C` as scikit-learn's, so the same coefficients. `n_sweeps_` counts how often the data were
# read; `history_` has a row for each iteration.

# %%
model.fit(X_train, y_train)
logistic = model[-1]
print(f"{logistic.n_sweeps_:.2f} sweeps, {logistic.n_iter_} iterations")
for row in logistic.history_:
    print(f"iteration {row['n_iter']}: loss {row['loss']:.6f}, largest gradient entry {row['grad_norm']:.1e}")

# %% [markdown]
# ## 4. How good it is
# Metrics take lazy arrays and read them once. The prediction is lazy too: it is computed where the metric asks for it.

# %%
probability = model.predict_proba(X_test)
area = roc_auc_score(y_test, probability[:, 1])
print(f"log-loss {log_loss(y_test, probability):.4f}, area under the ROC curve {area:.4f}")
probability

# %% [markdown]
# ## 5. Many models, one conversation
# Fifteen models, trained side by side in the sweeps of a few; their scores, and the best of them fitted on all rows. Folds
# are masks on row numbers: shuffled ones move no row.

# %%
cv = StratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(model, {"logisticregression__C": np.logspace(-4, 2, 5)}, cv=cv, scoring="neg_log_loss")
print(search.plan(X_train, y_train))
search.fit(X_train, y_train)
print(f"\nbest: {search.best_params_}, {search.n_sweeps_:.2f} sweeps for all")

# %% [markdown]
# ## 6. A model to take away
# A file without code in it, and scikit-learn's own estimator, which needs neither Dask nor this library to predict.

# %%
model.save(directory / "late.model")
again = daskml_core.load(directory / "late.model")
plain = again.to_sklearn()
ten = X_test[:10].compute()
print(type(plain), np.array_equal(plain.predict(ten), np.asarray(model.predict(ten))))

# %% [markdown]
# ## 7. Grid in, grid out
# A cube of sea surface temperature anomalies: time by latitude by longitude, land missing. Each place is a sample, its
# winters are the features. Labels come back as a lazy DataArray with the coordinates, land still missing.

# %%
spec = importlib.util.find_spec("eofs")
assert spec is not None and spec.origin is not None
path = Path(spec.origin).parent / "examples" / "example_data" / "sst_ndjfm_anom.nc"
with xr.open_dataset(path, engine="scipy") as ds:
    sst = ds["sst"].astype("f4").load().chunk(latitude=6)
regions = KMeans(5, random_state=0).fit(sst, sample_weight="cos_lat", feature_dim="time")
labels = regions.predict(sst)
labels

# %%
daskml_core.write(
    labels, directory / "regions.zarr", encoding={"label": {"dtype": "i1", "_FillValue": -1}}, overwrite=True
)
written = xr.open_zarr(directory / "regions.zarr", consolidated=False)["label"]
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
written.transpose("latitude", "longitude").plot.pcolormesh(ax=ax, levels=np.arange(6) - 0.5, cmap="viridis")
ax.set(title="Five regions of the Pacific", aspect="equal")
figure.savefig(directory / "tour.png", dpi=110)

# %% [markdown]
# ## 8. Elsewhere
# With a Dask `Client` the same lines run on a cluster, to the same bits:
#
# ```text
# from distributed import Client
# client = Client("tcp://scheduler:8786")
# ```
#
# A fit that takes hours keeps what it has learnt: `model.fit(X, y, checkpoint="run/checkpoint")`, run again after anything,
# goes on where it was.
