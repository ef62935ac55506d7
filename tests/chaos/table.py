"""Do the harm of every fault and write what was promised and measured into docs/reliability.md.

``python -m tests.chaos.table [--quick] [--times N] [words of a fault's name ...]``: with words only those rows are measured
anew, the others stay. ``--times`` multiplies the seeds (`make soak`).
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

from tests.chaos.common import close_shared
from tests.chaos.registry import all_faults

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
HEAD = "| fault | promised | measured |\n|---|---|---|\n"


def read_rows() -> dict[str, str]:
    """The table's rows as they stand, by the fault's name."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    return {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()[2:]}


def write_rows(rows: dict[str, str]) -> None:
    """The table with a row a fault, in the faults' order."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    lines = "".join(rows[name] + "\n" for name in all_faults() if name in rows)
    PAGE.write_text(before + BEGIN + HEAD + lines + END + rest.partition(END)[2])


def main() -> int:
    """Measure, and write after each fault; returns the number of promises that were broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    broken = done = 0
    began = time.perf_counter()
    for name, fault in all_faults().items():
        if given.words and not any(word in name for word in given.words):
            continue
        start = time.perf_counter()
        done += 1
        if fault.group != "workers":
            close_shared()
        try:
            measured = fault.run(range(1 if given.quick else given.times * fault.seeds), given.quick)
        except Exception:
            traceback.print_exc()
            print(f"BROKEN   {name}", flush=True)
            broken += 1
            close_shared()
            continue
        print(f"{time.perf_counter() - start:6.1f} s {name}: {measured}", flush=True)
        if not given.quick:
            write_rows(read_rows() | {name: f"| {name} | {fault.promised} | {measured} |"})
    close_shared()
    kept = f"{broken} promises are broken" if broken else "every promise is kept"
    print(
        f"{done} of {len(all_faults())} faults in {(time.perf_counter() - began) / 60:.0f} minutes: {kept}.", flush=True
    )
    return broken


if __name__ == "__main__":
    sys.exit(main())
