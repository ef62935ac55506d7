"""A picture in 64 colours: k-means on its pixels, in a zarr store, read chunk by chunk.

Writes ``colours.png``, the picture before and after: ``python examples/colours.py /scratch``.
"""

# %%
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image
from zarr.codecs import ZstdCodec

from daskml_core.cluster import KMeans

GAP = 12


# %% [markdown]
# ## Pixels in a store


# %%
def prepare(path: Path) -> tuple[zarr.Array, tuple[int, int]]:
    """The picture's pixels as rows (red, green, blue) of a zarr array, and its height and width."""
    picture = load_sample_image("flower.jpg")
    height, width, _ = picture.shape
    pixels = picture.reshape(-1, 3).astype(np.float32) / 255
    # Checksums and written empty chunks: a chunk that went missing or wrong must not be read as zeros.
    options = {"compressors": ZstdCodec(checksum=True), "config": {"write_empty_chunks": True}}
    store = zarr.create_array(path, shape=pixels.shape, chunks=(32_768, 3), dtype="f4", overwrite=True, **options)
    store[:] = pixels
    return store, (height, width)


# %% [markdown]
# ## Before and after, side by side


# %%
def draw(before: np.ndarray, after: np.ndarray, path: Path, titles: tuple[str, str]) -> None:
    """Two pictures side by side, each under its title."""
    height, width, _ = before.shape
    canvas = Image.new("RGB", (2 * width + 3 * GAP, height + 3 * GAP + 12), "white")
    text = ImageDraw.Draw(canvas)
    for i, (picture, title) in enumerate(zip((before, after), titles, strict=True)):
        left = GAP + i * (width + GAP)
        text.text((left, GAP), title, fill="black", font_size=14)
        canvas.paste(Image.fromarray((picture * 255).round().astype(np.uint8)), (left, 2 * GAP + 12))
    canvas.save(path)


# %% [markdown]
# ## K-means on the pixels
# `labels_` is lazy, chunk by chunk, as the store is.


# %%
def quantise(directory: Path, n_colours: int = 64) -> tuple[KMeans, Path]:
    """The fitted model, and where the picture was drawn."""
    store, shape = prepare(directory / "pixels.zarr")
    model = KMeans(n_colours, random_state=0).fit(store)
    # Lazy: the colour of each pixel's cluster, chunk by chunk.
    colours = model.labels_.map_blocks(
        lambda labels: model.cluster_centers_[labels],
        chunks=((*model.labels_.chunks[0],), (3,)),
        new_axis=1,
        dtype="f4",
    )
    pixels = da.from_zarr(store)
    distinct = len(np.unique((pixels.compute() * 255).round().astype(int), axis=0))
    path = directory / "colours.png"
    titles = (f"{distinct:,} colours", f"{n_colours} colours, found in {model.n_sweeps_:g} sweeps")
    draw(pixels.compute().reshape(*shape, 3), colours.compute().reshape(*shape, 3), path, titles)
    return model, path


# %% [markdown]
# ## Quantise, and tell

# %%
if __name__ == "__main__":
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    directory.mkdir(parents=True, exist_ok=True)
    model, path = quantise(directory)
    n_pixels = model.cluster_sizes_.sum()
    error = np.sqrt(model.inertia_ / n_pixels / 3) * 255
    print(f"{n_pixels:,} pixels in {len(model.cluster_centers_)} colours: off by {error:.1f} of 255")
    print(f"{model.n_sweeps_:g} sweeps over the store, {model.n_iter_} iterations; drawn to {path}.")
