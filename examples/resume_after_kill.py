"""A fit that is killed by SIGKILL in the middle, and the same fit run again: it goes on, to the same bits.

The fit is in ``slow_logistic.py``, beside this file. Run: ``python examples/resume_after_kill.py``.
"""

# %%
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import slow_logistic
from slow_logistic import BLOCKS, fit, read

# %% [markdown]
# ## Undisturbed

# %%
whole = fit()
print(f"{len(read) // BLOCKS} sweeps over X, {whole.n_sweeps_:g} as the model counts them")

# %% [markdown]
# ## Killed
# Another process runs the same fit with a checkpoint; after a few sweeps it is killed.

# %%
folder = tempfile.TemporaryDirectory()
checkpoint = Path(folder.name) / "checkpoint"
child = subprocess.Popen([sys.executable, slow_logistic.__file__, str(checkpoint)])
while not (checkpoint / "000005.sweeps").exists() and child.poll() is None:
    time.sleep(0.01)
child.send_signal(signal.SIGKILL)
child.wait()
kept = list(checkpoint.glob("*.sweeps"))
size = sum(file.stat().st_size for file in checkpoint.iterdir())
print(f"killed: the checkpoint holds {len(kept)} sweeps in {size / 1e3:.0f} kB")

# %% [markdown]
# ## Run again
# What the checkpoint holds is not read again, and the coefficients have the same bits.

# %%
read.clear()
model = fit(str(checkpoint))
print(f"run again: {len(read) // BLOCKS} sweeps over X, {model.n_sweeps_:g} as the model counts them")
print(f"same bits: {model.coef_.tobytes() == whole.coef_.tobytes()}")
print(f"checkpoint removed: {not checkpoint.exists()}")
folder.cleanup()
