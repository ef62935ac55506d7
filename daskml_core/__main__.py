"""``python -m daskml_core``: the commands of ``dask ml``."""

from daskml_core.cli import ml

if __name__ == "__main__":
    ml(prog_name="python -m daskml_core")
