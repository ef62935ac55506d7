"""Settings of all tests: SciPy's array API must be chosen before SciPy is imported."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")
