"""A disk that fails at every step of a command: python benchmarks/reliability/faults.py [--steps N] [--rooms N]

Each command of kills.py runs on a copy of a small library, on a disk that fails at its n-th step below the library
(create, write, fsync, truncate, rename, unlink, mkdir; those of SQLite and FAISS too), for every n as in kills.py, up
to `--steps` of each command:

    EIO once, EIO from then on         ENOSPC once, ENOSPC from then on         half of a write done, once

The command must end with exit code 0 or 1, and say what failed: no traceback, no internal error, no other code.
What it had committed before must be there, what it finds on a good disk again must be complete, and the library then
as if the disk had never failed (all the checks of kills.py). Then `--rooms` times, where a file system can be mounted:
the first command on a real one that is full after so many KiB, which is made larger then.
"""

import random
import shutil
import subprocess
from collections import Counter
from typing import Any

import support
from cases import Case, cases
from kills import Kills

ACTIONS = {
    "e": "EIO once",
    "E": "EIO from then on",
    "n": "ENOSPC once",
    "N": "ENOSPC from then on",
    "s": "half a write",
}
ON_WRITES = "nNs"


class Faults(Kills):
    """Commands on a disk that fails."""

    def fail_at_step(self, case: Case, number: int, action: str) -> int:
        """Let the disk fail at a step and check; return the exit code."""
        ended = self.run_armed(case, number, action)
        step = case.state["steps"][number - 1]
        name = f"{case.name}, {ACTIONS[action]} at step {number} ({step})"
        self.judge(case, name, ended, step)
        self.check(case, name, self._acknowledged())
        return ended.code

    def judge(self, case: Case, name: str, ended: support.Ended, step: str) -> None:
        """See that the command said what failed."""
        last = ended.out.strip()[-400:]
        if "Traceback" in ended.out or "Internal error" in ended.out or ended.code not in (0, 1, *case.accepts):
            self.failures.append(f"{name}: it ended with {ended.code}: {last}")
        elif ended.code == 1 and not last:
            self.failures.append(f"{name}: it says nothing")
        elif "damaged" in ended.out:
            self.failures.append(f"{name}: it says damaged: {last}")

    def fill_disk(self, case: Case, room: int) -> str:
        """Run on a file system with so many KiB left, then on a large one; return how the first run ended."""
        self.reset(case)
        self.acknowledged.write_text("")
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.trial]
        if subprocess.run(mount, capture_output=True).returncode:
            return "no file system can be mounted here"
        try:
            self.fill(case)
            room += (shutil.disk_usage(self.trial).used >> 10) if case.before.exists() or case.extra else 0
            subprocess.run(["mount", "-o", f"remount,size={room}k", self.trial], check=True)
            ended = support.fork(lambda: self.acknowledging(case))
            name = f"a full disk, of {room} KiB"
            self.judge(case, name, ended, "")
            subprocess.run(["mount", "-o", "remount,size=64m", self.trial], check=True)
            self.check(case, name, self._acknowledged())
        finally:
            subprocess.run(["umount", "-l", self.trial], check=True)
        return f"ended with {ended.code}"

    def work(self, chosen: list[Case], job: int, given: Any) -> dict[str, Any]:
        """Do one job's share."""
        self._move(f"trial{job}")
        chance = random.Random(f"{given.seed} {job}")
        trials = [trial for case in chosen for trial in _trials(case, given.steps)]
        chance.shuffle(trials)
        if given.trials:
            trials = trials[: given.trials]
        counts: dict[str, Counter[str]] = {}
        for case, number, action in trials[job :: given.jobs]:
            code = self.fail_at_step(case, number, action)
            counts.setdefault(case.name, Counter()).update([f"exit {code}"])
        for number in range(job, given.rooms, given.jobs):
            counts.setdefault("a full disk", Counter()).update([self.fill_disk(chosen[0], 24 + 16 * number)])
        return {"counts": counts, "failures": self.failures}


def _trials(case: Case, most: int) -> list[tuple[Case, int, str]]:
    found = []
    for number in support.choose_steps(case.state["steps"], most):
        is_write = case.state["steps"][number - 1].split()[0] in ("write", "create", "mkdir", "link")
        found += [(case, number, action) for action in ACTIONS if is_write or action not in ON_WRITES]
    return found


def main() -> None:
    parser = support.parser(__doc__, trials=0, steps=60, rooms=30, jobs=2)
    parser.add_argument("--only", nargs="+", default=(), help="these commands alone, by their names in the table")
    given = parser.parse_args()
    support.under_shim()
    support.quiet()
    with support.workplace() as folder:
        faults = Faults(folder, support.warm(support.cache(folder)))
        chosen = cases(folder, given.only)
        for case in chosen:
            faults.prepare(case)
        done = support.share(given.jobs, lambda job: faults.work(chosen, job, given))
        failures = [line for each in done for line in each["failures"]]
        rows = [row(name, done, failures) for name in [*(case.name for case in chosen), "a full disk"]]
        support.report("faults", given, rows, failures)


def row(name: str, done: list[dict[str, Any]], failures: list[str]) -> dict[str, Any]:
    """Sum up what the disk did to a command."""
    counts: Counter[str] = Counter()
    for each in done:
        counts.update(each["counts"].get(name, {}))
    failed = len(
        {
            line.split(": ")[0]
            for line in failures
            if line.startswith(name + ",") or ("KiB" in line and name == "a full disk")
        }
    )
    ends = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
    return {"command": name, "faults": sum(counts.values()), "ends": ends, "failed": failed}


if __name__ == "__main__":
    main()
