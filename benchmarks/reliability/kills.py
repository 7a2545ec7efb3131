"""Kill a command at any moment: python benchmarks/reliability/kills.py [--trials N] [--steps N]

Each command runs on a copy of a small library in a process of its own, which is killed by SIGKILL: `--trials` times at
a random moment, and at each of its steps on the disk (create, write, fsync, truncate, rename, unlink, mkdir, rmdir,
those of SQLite and FAISS too, see fault_shim.c), once before the step and, for a write, once in the middle of it. A
transaction writes many pages in a row, of which the first, the last and some between are taken, up to `--steps` of
each command; 0 leaves the steps out. After each kill:

    lost        what a finished command or a commit that returned had stored is there, to the byte
    torn        each item is as before or as after; of forget, label, build and compact, the library as a whole is
    answers     the engine opens the library, and its answers are those of before or after
    damage      `clipsearch verify` (or doctor) finds none
    next run    the same command completes, and the library is as that of a run that was not killed
"""

import json
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import corpus
import support
from cases import Case, cases
from checks import FEW, Questions, damage, lost, read_state


class Kills:
    """Victims of all commands, in one place."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self.folder = folder
        self.questions = Questions(encoder)
        self.failures: list[str] = []
        self._move("trial")

    def _move(self, name: str) -> None:
        self.trial = self.folder / name
        self.library = self.trial / "lib"
        self.acknowledged = self.folder / f"{name}-acknowledged"

    def work(self, chosen: list[Case], job: int, given: Any) -> dict[str, Any]:
        """Do one job's share of the kills; several work side by side."""
        self._move(f"trial{job}")
        chance = random.Random(f"{given.seed} {job}")
        at_random, at_steps = Counter[str](), Counter[str]()
        while sum(at_random.values()) < given.trials // given.jobs + (job < given.trials % given.jobs):
            case = chance.choice(chosen)
            at_random[case.name] += self.kill_at_random(case, chance.random())
        kills = [kill for case in chosen for kill in step_kills(case, given.steps)]
        for case, number, action in kills[job :: given.jobs]:
            self.kill_at_step(case, number, action)
            at_steps[case.name] += 1
        return {"random": at_random, "steps": at_steps, "failures": self.failures}

    def prepare(self, case: Case) -> None:
        """Note the state before, run the command unkilled, and note its time, its steps and the state after."""
        self.reset(case)
        case.state["before"] = support.ask_fork(self.look)
        started = time.monotonic()
        if support.fork(lambda: support.command(*case.arguments(self.library))).code:
            raise RuntimeError(f"{case.name} does not work at all")
        case.state["seconds"] = time.monotonic() - started
        case.state["after"] = support.ask_fork(self.look)
        case.state["steps"] = []
        if support.has_shim():
            self.reset(case)
            ended, case.state["steps"] = support.steps_of(
                self.trial, lambda: support.command(*case.arguments(self.library))
            )
            assert not ended.code, ended.out

    def reset(self, case: Case) -> None:
        """Put the library of before in place."""
        shutil.rmtree(self.trial, ignore_errors=True)
        self.trial.mkdir()
        self.fill(case)

    def fill(self, case: Case) -> None:
        """Put the library, and what has to lie beside it, into the empty folder."""
        corpus.copy(case.before, self.library)
        if case.extra:
            case.extra(self.trial)

    def look(self) -> dict[str, Any]:
        """Return state, answers and damage of the library as it is."""
        state = read_state(self.library)
        if not state.get("items"):
            return {"state": state, "answers": {}, "damage": []}
        asked = self.questions.ask(self.library, FEW)
        answers = {name: answer.error or answer.value for name, answer in asked.items()}
        return {"state": state, "answers": answers, "damage": damage(self.library)}

    def look_and_go_on(self, case: Case) -> tuple[dict[str, Any], int, dict[str, Any]]:
        """Look, run the command again, and look again."""
        now = self.look()
        if case.check:
            now["damage"] += case.check(self.trial, False)
        code = support.command(*case.arguments(self.library))
        final = self.look()
        if case.check:
            final["damage"] += case.check(self.trial, True)
        return now, code, final

    def kill_at_random(self, case: Case, moment: float) -> bool:
        """Kill at a moment from 0 to 1 of the run and check; False where the command had ended before."""
        delay = moment * case.state["seconds"]
        self.reset(case)
        self.acknowledged.write_text("")
        victim = support.Victim(lambda: self.acknowledging(case))
        until = time.monotonic() + delay
        while victim.is_running() and time.monotonic() < until:
            time.sleep(0.0005)
        victim.kill()
        if victim.wait().code != -9:
            return False
        self.check(case, f"{case.name}, after {delay:.3f} s", self._acknowledged())
        return True

    def kill_at_step(self, case: Case, number: int, action: str) -> None:
        """Kill at a step and check."""
        ended = self.run_armed(case, number, action)
        what = "in the middle of" if action == "t" else "before"
        name = f"{case.name}, {what} step {number} ({case.state['steps'][number - 1]})"
        if ended.code not in (-9, 0):  # steps after the last that a busy machine takes may differ by a few
            self.failures.append(f"{name}: it ended with {ended.code}: {ended.out[-300:]}")
        self.check(case, name, self._acknowledged())

    def run_armed(self, case: Case, number: int, action: str) -> support.Ended:
        """Run a command with a fault armed at one of its steps; return how it ended."""
        self.reset(case)
        self.acknowledged.write_text("")

        def run() -> object:
            support.arm(self.trial, number, action)
            return self.acknowledging(case)

        return support.fork(run)

    def _acknowledged(self) -> list[str]:
        return self.acknowledged.read_text().split("\n")[:-1]

    def acknowledging(self, case: Case) -> int:
        """Run the command, and note each file whose commit has returned."""
        from clipsearch.store.writer import Writer

        commit, descriptor = Writer.commit, os.open(self.acknowledged, os.O_WRONLY | os.O_APPEND)

        def noted(writer: Any, batch: Any, *roots: Any) -> Any:
            done = commit(writer, batch, *roots)
            unresolved = {record.path for record in done.unresolved}
            paths = [each.record.path for each in batch if each.record.path not in unresolved]
            os.write(descriptor, "".join(f"{path}\n" for path in paths).encode())
            return done

        Writer.commit = noted  # type: ignore[method-assign]
        return support.command(*case.arguments(self.library))

    def check(self, case: Case, name: str, acknowledged: list[str]) -> None:
        """Look at what a kill has left, run the command again, and compare."""
        before, after = case.state["before"], case.state["after"]
        try:
            now, code, final = support.ask_fork(lambda: self.look_and_go_on(case))
            wrong = lost(before["state"], after["state"], now["state"], acknowledged)
            wrong += [] if case.is_mending else now["damage"]
            whole = [seen["state"].get("items", {}) for seen in (before, after)]
            if case.is_whole and now["state"].get("items", {}) not in whole:
                wrong.append("half of the command was done")
            errors = [f"{key}: {value}" for key, value in now["answers"].items() if "Error" in value[:40]]
            errors = [line for line in errors if line not in _errors(before) | _errors(after)]
            wrong += [] if case.is_mending else errors
            if case.is_whole and now["answers"] not in (before["answers"], after["answers"]):
                wrong.append(f"the answers are neither those of before nor of after: {_differing(now, before, after)}")
            if code not in case.accepts:
                wrong.append(f"the next run ends with {code}")
            wrong += final["damage"]
            if final["state"] != after["state"]:
                wrong.append(f"the library is not as without a kill: {_difference(final['state'], after['state'])}")
            elif final["answers"] != after["answers"]:
                wrong.append(f"the answers are not as without a kill: {_differing(final, after)}")
        except (RuntimeError, AssertionError) as error:
            wrong = [str(error)]
        self.failures += [f"{name}: {line}" for line in wrong[:5]]


def step_kills(case: Case, most: int) -> list[tuple[Case, int, str]]:
    """List (case, number of the step, action) of the kills at steps of a command."""
    found = []
    for number in support.choose_steps(case.state["steps"], most):
        is_write = case.state["steps"][number - 1].startswith("write")
        found += [(case, number, action) for action in ("kt" if is_write else "k")]
    return found


def _errors(seen: dict[str, Any]) -> set[str]:
    return {f"{key}: {value}" for key, value in seen["answers"].items()}


def _differing(one: dict[str, Any], *others: dict[str, Any]) -> list[str]:
    return [key for key, value in one["answers"].items() if all(value != other["answers"].get(key) for other in others)]


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    keys = [key for key in other if one.get(key) != other[key]]
    if keys == ["items"]:
        places = [
            place for place in {*one["items"], *other["items"]} if one["items"].get(place) != other["items"].get(place)
        ]
        first = (one["items"].get(places[0]), other["items"].get(places[0]))
        fields = [key for key in (first[1] or {}) if not first[0] or first[0].get(key) != first[1][key]]
        return f"{len(places)} items, such as {places[0]} ({', '.join(fields)})"
    return json.dumps({key: one.get(key) for key in keys})[:300]


def main() -> None:
    parser = support.parser(__doc__, trials=500, steps=150, jobs=2)
    parser.add_argument("--only", nargs="+", default=(), help="these commands alone, by their names in the table")
    given = parser.parse_args()
    if given.steps:
        support.under_shim()
    support.quiet()
    with support.workplace() as folder:
        kills = Kills(folder, support.warm(support.cache(folder)))
        chosen = cases(folder, given.only)
        for case in chosen:
            kills.prepare(case)
        done = support.share(given.jobs, lambda job: kills.work(chosen, job, given))
        rows = [row(case, done) for case in chosen]
        support.report("kills", given, rows, [line for each in done for line in each["failures"]])


def row(case: Case, done: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up what was done to a command."""
    failures = [line for each in done for line in each["failures"]]
    return {
        "command": case.name,
        "random_kills": sum(each["random"].get(case.name, 0) for each in done),
        "steps": len(case.state["steps"]),
        "kills_at_steps": sum(each["steps"].get(case.name, 0) for each in done),
        "failed": len({line.split(": ")[0] for line in failures if line.startswith(case.name + ",")}),
    }


if __name__ == "__main__":
    main()
