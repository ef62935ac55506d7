"""Where a store lies: paths, URLs and other libraries' stores become zarr stores; what goes wrong there, in plain words."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from daskml_core.data.chunks import METADATA
from daskml_core.data.kind import package_of
from daskml_core.errors import StoreError, UnsupportedDataError

Backend = Literal["fsspec", "obstore"] | None
Options = Mapping[str, Any] | None

OBSTORE_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https")
FSSPEC_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "http": "aiohttp", "https": "aiohttp",
}  # fmt: skip
EXTRA = "pip install 'daskml_core[remote]'"

NOT_ZARR = {
    b"CDF": "a netCDF",
    b"\x89HDF": "an HDF5 (netCDF 4)",
    b"GRIB": "a GRIB",
    b"PAR1": "a Parquet",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
}
"""What files of other formats begin with."""

SUFFIXES = {
    ".nc": "a netCDF",
    ".nc4": "a netCDF",
    ".h5": "an HDF5",
    ".hdf5": "an HDF5",
    ".grib": "a GRIB",
    ".grib2": "a GRIB",
    ".parquet": "a Parquet",
    ".tif": "a TIFF",
    ".tiff": "a TIFF",
}

ICECHUNK_PARTS = ("refs", "snapshots")
"""Directories of an icechunk repository."""


def scheme_of(place: str) -> str | None:
    """Scheme of a URL; ``None`` for a path.

    >>> scheme_of("s3://bucket/x.zarr"), scheme_of("/data/x.zarr")
    ('s3', None)
    """
    head, mark, _ = place.partition("://")
    return head.lower() if mark and head else None


def local_path(place: Any) -> str | None:
    """The path of a place on this machine, that of a ``file://`` URL included; ``None`` for anything else."""
    if not isinstance(place, str | os.PathLike):
        return None
    place = os.fspath(place)
    scheme = scheme_of(place)
    if scheme in ("file", "local"):
        return str(place.partition("://")[2])
    return os.path.expanduser(place) if scheme is None else None


def as_store(
    place: Any,
    *,
    read_only: bool = True,
    backend: Backend = None,
    storage_options: Options = None,
    version: str | None = None,
) -> Any:
    """A zarr store.

    Parameters
    ----------
    place : a path or URL; a zarr store; a store of obstore, a mapping of fsspec; an icechunk repository or session.
    read_only : whether the store refuses to be written.
    backend : the library that goes to a URL: ``"fsspec"`` (``s3fs``, ``gcsfs``, ...), ``"obstore"``, or whichever is
        installed, fsspec's first.
    storage_options : its options: credentials, endpoint, region, by the names that library has for them.
    version : branch, tag or snapshot of an icechunk repository; by default its branch ``main``.

    Raises
    ------
    ImportError : a package that the URL needs is not there; named with the extra that brings it.
    UnsupportedDataError : a file that is no zarr store (netCDF, HDF5, GRIB, TIFF).
    """
    import zarr
    from zarr.abc.store import Store

    if backend not in (None, "fsspec", "obstore"):
        raise ValueError(f"backend must be 'fsspec', 'obstore' or None, got {backend!r}.")
    path = local_path(place)
    if path is not None:
        if storage_options or backend:
            raise ValueError(f"{path} lies on this machine: backend and storage_options are for URLs.")
        return _local(path, read_only, version)
    if isinstance(place, str):
        return _remote(place, read_only, backend, dict(storage_options or {}), version)
    if storage_options or backend:
        raise ValueError(f"backend and storage_options are for URLs, and a {type(place).__name__} is none.")
    package = package_of(place)
    if package == "icechunk" and not isinstance(place, Store):
        return _of_icechunk(place, read_only, version)
    if version is not None:
        raise ValueError(f"version is for icechunk repositories, and a {type(place).__name__} is none.")
    if isinstance(place, Store):
        return place
    if package == "obstore":
        return zarr.storage.ObjectStore(place, read_only=read_only)
    if package == "fsspec":
        return zarr.storage.FsspecStore.from_mapper(place, read_only=read_only)
    if isinstance(place, dict):
        return zarr.storage.MemoryStore(place, read_only=read_only)
    raise TypeError(
        f"A zarr store is a path, a URL, or a store of zarr, obstore, fsspec or icechunk; got {type(place).__name__}."
    )


def _local(path: str, read_only: bool, version: str | None) -> Any:
    import zarr

    if _is_repository(path):
        return _of_icechunk(_icechunk().Repository.open(_icechunk().local_filesystem_storage(path)), read_only, version)
    if version is not None:
        raise ValueError(f"version is for icechunk repositories, and {path} is none.")
    if os.path.isfile(path):
        if zipfile.is_zipfile(path):
            return zarr.storage.ZipStore(path, mode="r" if read_only else "a", read_only=read_only)
        refuse_other_files(path)
    return zarr.storage.LocalStore(path, read_only=read_only)


def refuse_other_files(path: str) -> None:
    """Refuse a file of another format, with how to read it.

    Raises
    ------
    UnsupportedDataError
    """
    with open(path, "rb") as file:
        head = file.read(4)
    kind = next((kind for magic, kind in NOT_ZARR.items() if head.startswith(magic)), None) or _by_name(path)
    raise UnsupportedDataError(_is_no_zarr(path, kind) if kind else f"{path} is a file and no zarr store.")


def _by_name(place: str) -> str | None:
    return SUFFIXES.get(os.path.splitext(place.rstrip("/"))[1].lower())


def _is_no_zarr(place: str, kind: str) -> str:
    read = {
        "a Parquet": f"dask.dataframe.read_parquet({place!r})",
        "a TIFF": f"rioxarray.open_rasterio({place!r}, chunks={{}})",
    }.get(kind, f"xarray.open_dataset({place!r}, chunks={{}})")
    return (
        f"{place} is {kind} file, not a zarr store. Estimators take what {read} gives; for fits that read it many times "
        "write it to zarr once, e.g. with .to_zarr('data.zarr')."
    )


def _remote(url: str, read_only: bool, backend: Backend, options: dict[str, Any], version: str | None) -> Any:
    import zarr

    scheme = str(scheme_of(url))
    if version is not None:
        return _of_icechunk(_remote_repository(url, options, backend), read_only, version)
    if (kind := _by_name(url)) is not None:
        raise UnsupportedDataError(_is_no_zarr(url, kind))
    if backend is None:
        needed = FSSPEC_PACKAGES.get(scheme)
        lacking = needed is not None and importlib.util.find_spec(needed) is None
        usable = scheme in OBSTORE_SCHEMES and not options and importlib.util.find_spec("obstore") is not None
        backend = "obstore" if lacking and usable else "fsspec"
    if backend == "obstore":
        if importlib.util.find_spec("obstore") is None:
            raise ImportError(f"backend='obstore' needs the package obstore: {EXTRA}.")
        import obstore

        try:
            store: Any = obstore.store.from_url(url, **options)
        except obstore.exceptions.UnknownConfigurationKeyError as error:
            raise ValueError(
                f"storage_options for obstore: {_short(error)} fsspec's names are others; they go with backend='fsspec'."
            ) from None
        return zarr.storage.ObjectStore(store, read_only=read_only)
    _require_fsspec(scheme)
    if scheme in ("s3", "s3a"):
        # s3fs keeps listings for good: chunks that were written or lost since would not be seen.
        options.setdefault("use_listings_cache", False)
    try:
        return zarr.storage.FsspecStore.from_url(url, storage_options=options, read_only=read_only)
    except TypeError as error:
        raise ValueError(
            f"storage_options for {scheme}: {error}. obstore's names are others; they go with backend='obstore'."
        ) from error


def _require_fsspec(scheme: str) -> None:
    from fsspec.registry import known_implementations

    package = FSSPEC_PACKAGES.get(scheme)
    if package is not None and importlib.util.find_spec(package) is None:
        how = EXTRA if package in ("s3fs", "aiohttp") else f"pip install {package}"
        other = f", or backend='obstore' ({EXTRA})" if scheme in OBSTORE_SCHEMES else ""
        raise ImportError(f"{scheme}:// needs the package {package}: {how}{other}.")
    if scheme not in known_implementations:
        close = difflib.get_close_matches(scheme, known_implementations, 1)
        raise ValueError(f"{scheme}:// is not known to fsspec{f'; did you mean {close[0]}://?' if close else '.'}")


# -- icechunk --------------------------------------------------------------------------------------------------------


def _icechunk() -> Any:
    if importlib.util.find_spec("icechunk") is None:
        raise ImportError(f"This is an icechunk repository, which needs the package icechunk: {EXTRA}.")
    import icechunk

    return icechunk


def _is_repository(path: str) -> bool:
    described = any(os.path.isfile(os.path.join(path, name)) for name in (*METADATA, ".zgroup"))
    return not described and all(os.path.isdir(os.path.join(path, part)) for part in ICECHUNK_PARTS)


def _remote_repository(url: str, options: dict[str, Any], backend: Backend) -> Any:
    """The icechunk repository at an S3 URL; options by icechunk's names."""
    if backend is not None:
        raise ValueError("An icechunk repository is read by icechunk itself: leave backend out.")
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3":
        raise ValueError(
            f"Icechunk repositories are opened at paths and s3:// URLs here. For {scheme}:// open it yourself and pass the "
            "session, e.g. icechunk.Repository.open(icechunk.gcs_storage(...)).readonly_session('main')."
        )
    icechunk = _icechunk()
    try:
        storage = icechunk.s3_storage(bucket=bucket, prefix=prefix.strip("/") or None, **options)
    except TypeError as error:
        raise ValueError(f"storage_options for icechunk: {error}.") from error
    return icechunk.Repository.open(storage)


def _of_icechunk(place: Any, read_only: bool, version: str | None) -> Any:
    """The store of a session, or of a repository at a version."""
    if hasattr(place, "store"):  # a session
        if version is not None:
            raise ValueError("A session has its version already.")
        return place.store
    if not read_only:
        raise ValueError(
            "What is written to an icechunk repository is written to a session, which you commit: "
            "session = repository.writable_session('main'); write(..., session.store); session.commit('...')."
        )
    version = version or "main"
    kind = "branch" if version in place.list_branches() else "tag" if version in place.list_tags() else "snapshot_id"
    try:
        return place.readonly_session(**{kind: version}).store
    # Whatever icechunk says of an identifier: its errors of what is not there and of the way there are of one class.
    except Exception as error:
        raise ValueError(
            f"The repository has no branch, tag or snapshot {version!r}: branches {sorted(place.list_branches())}, tags "
            f"{sorted(place.list_tags())}."
        ) from error


# -- what a store can do, and what goes wrong ------------------------------------------------------------------------


CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "UnauthenticatedError", "PermissionDeniedError", "TokenRetrievalError",
     "CredentialRetrievalError", "PermissionError", "ProfileNotFound", "NoAuthTokenError"}
)  # fmt: skip
CONNECTION = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError", "ConnectionError", "ConnectionClosedError",
     "HTTPClientError", "ClientConnectionError"}
)  # fmt: skip


def _names(error: BaseException) -> set[str]:
    """Names of the classes of an error and of what caused it."""
    found: set[str] = set()
    seen: BaseException | None = error
    while seen is not None:
        found |= {cls.__name__ for cls in type(seen).__mro__}
        seen = seen.__cause__ or seen.__context__
    return found


def is_transport(error: BaseException) -> bool:
    """Whether an error is one of the way to a store, not of what the store holds.

    obstore, icechunk and botocore raise errors of their own, which are no ``OSError``.
    """
    if isinstance(error, OSError):
        return True
    package = package_of(error)
    if package == "obstore":
        return type(error) is not sys.modules["obstore"].exceptions.NotFoundError
    return package in ("botocore", "aiohttp", "icechunk")


def is_lasting(error: BaseException) -> bool:
    """Whether waiting does not cure an error of the way to a store."""
    return bool(_names(error) & CREDENTIALS)


@contextlib.contextmanager
def plainly(place: Any) -> Iterator[None]:
    """Errors of other libraries on the way to a store, in words that say what to do.

    Raises
    ------
    PermissionError : no credentials, or not enough.
    ConnectionError : nobody answers.
    """
    try:
        yield
    except Exception as error:
        own = isinstance(error, StoreError | FileNotFoundError | FileExistsError)
        if own or local_path(place) is not None or not is_transport(error):
            raise
        raise _plain(place, error) from error


def _short(error: Exception) -> str:
    """An error's first words, without what obstore adds for its own developers."""
    return " ".join(str(error).partition("Debug source")[0].split())


def _plain(place: Any, error: Exception) -> Exception:
    names, said = _names(error), f"{type(error).__name__}: {_short(error)}"[:300]
    text = str(error)
    s3 = str(place).startswith("s3")
    if names & CREDENTIALS or "169.254." in text or "InvalidAccessKeyId" in text or "SignatureDoesNotMatch" in text:
        options = (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or pass storage_options "
            "({'key': ..., 'secret': ...} for s3fs, {'access_key_id': ..., 'secret_access_key': ...} for obstore); for a "
            "public bucket {'anon': True} or {'skip_signature': True}"
            if s3
            else "set the credentials that this kind of store looks for, or pass them as storage_options"
        )
        return PermissionError(f"{place} lets nobody in with these credentials, or without any: {options}. ({said})")
    if names & CONNECTION or "error sending request" in text or "connect" in text.lower():
        return ConnectionError(
            f"{place} does not answer: is the address right, and the network there? Another server than the default is "
            f"named by endpoint_url (s3fs) or endpoint (obstore) in storage_options. ({said})"
        )
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return FileNotFoundError(f"There is no bucket for {place}. ({said})")
    return OSError(f"{place} cannot be read: {said}")


def options_error(error: Exception) -> ValueError | None:
    """The error for options that a library does not have, which some find out when they connect."""
    if isinstance(error, TypeError) and "keyword argument" in str(error):
        return ValueError(
            f"storage_options: {error}. fsspec's and obstore's names differ; backend says whose they are."
        )
    return None


def nothing_there(place: Any, name: str | None = None) -> FileNotFoundError:
    """The error for a place without a zarr store, with what is there instead."""
    path = local_path(place)
    where = f"{place}" + (f" at {name!r}" if name else "")
    if path is None:
        return FileNotFoundError(
            f"There is no zarr store at {where}: it has no zarr.json, .zgroup or .zarray. Check bucket and path"
            + (", and give version='main' if it is an icechunk repository." if str(place).startswith("s3") else ".")
        )
    if not os.path.exists(path):
        parent, base = os.path.split(os.path.abspath(path))
        beside = os.listdir(parent) if os.path.isdir(parent) else []
        close = difflib.get_close_matches(base, beside, 1, 0.75)
        hint = f" Did you mean {os.path.join(parent, close[0])}?" if close else ""
        if not os.path.isdir(parent):
            hint = f" There is no directory {parent} either."
        return FileNotFoundError(f"There is no zarr store at {where}.{hint}")
    inside = os.path.join(path, name) if name else path
    stores = [
        entry
        for entry in (sorted(os.listdir(inside))[:1000] if os.path.isdir(inside) else [])
        if any(os.path.isfile(os.path.join(inside, entry, meta)) for meta in (*METADATA, ".zgroup"))
    ]
    hint = f" These in it are: {', '.join(stores[:5])}." if stores else ""
    return FileNotFoundError(
        f"There is no zarr store at {where}: the directory has no zarr.json, .zgroup or .zarray.{hint}"
    )
