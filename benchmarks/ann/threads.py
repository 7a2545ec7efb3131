"""FAISS's threads beside another busy process: threads that spin while they wait, and threads that sleep.

    python benchmarks/ann/threads.py

The same training of inverted lists in a fresh process each: alone, and with one core taken by a second process.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import interleaved, write_result

TRAIN = """
import numpy as np, faiss
rows = np.random.default_rng(0).standard_normal((20000, 256), np.float32)
kmeans = faiss.Kmeans(256, 256, niter=10, seed=1)
kmeans.train(rows)
"""
BUSY = "while True: pass"


def main() -> None:
    """Train with each policy, alone and beside a busy process."""
    rows = []
    for beside in ("nothing", "one busy process"):
        other = subprocess.Popen([sys.executable, "-c", BUSY]) if beside != "nothing" else None
        try:
            time.sleep(0.5)
            commands = {
                policy: ["env", f"OMP_WAIT_POLICY={policy}", sys.executable, "-c", TRAIN]
                for policy in ("ACTIVE", "PASSIVE")
            }
            commands["unset"] = ["env", "-u", "OMP_WAIT_POLICY", sys.executable, "-c", TRAIN]
            commands["one thread"] = ["env", "OMP_NUM_THREADS=1", sys.executable, "-c", TRAIN]
            times = interleaved(commands, 3, dict(os.environ))
        finally:
            if other is not None:
                other.kill()
                other.wait()
        medians = {name: sorted(taken)[len(taken) // 2] for name, taken in times.items()}
        row = {"beside": beside} | {f"{name}_seconds": round(value, 2) for name, value in medians.items()}
        row["unset_over_passive"] = round(medians["unset"] / medians["PASSIVE"], 2)
        rows.append(row)
        print(row, flush=True)
    write_result("threads", {"rows": rows})


if __name__ == "__main__":
    main()
