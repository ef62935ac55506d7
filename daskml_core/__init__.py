"""scikit-learn for arrays that do not fit in memory: exact linear models on Dask, zarr and xarray."""

__version__ = "0.1.0"
