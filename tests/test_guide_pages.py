"""What the guide's pages on pictures and on models to take away show is run as it stands."""

import re
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")
GUIDE = Path(__file__).parents[1] / "docs" / "guide"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("page", ["pictures.md", "take_away.md", "watching.md"])
def test_every_block_of_a_page_runs(page, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "runs"))
    blocks = re.findall(r"^```python\n(.*?)^```", (GUIDE / page).read_text(), re.M | re.S)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    plt.close("all")
