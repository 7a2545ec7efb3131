"""Cut the power while commands write: python benchmarks/reliability/power_cut.py [--trials N] [--careless]

A library lies on an ext4 file system in an image file that is mounted through a loop device: what a program has
written and not flushed is in the page cache of that file system and not in the image. At random moments the writing
process is stopped, the image is copied (again, until two copies are equal: the kernel may be flushing) and the process
goes on. Each copy is what a disk holds after a power cut: its journal is replayed by e2fsck, it is mounted, and

    lost      every batch whose commit had returned, and every command that had ended, is there, to the byte
    damage    `clipsearch verify` (or doctor) finds none
    next run  of every fifth copy: `index` completes, and the library holds every picture

Moments inside one fsync are not covered: a stopped process finishes its system call. `--careless` is the control: the
same without any fsync and with synchronous=OFF; it must fail. Needs root, loop devices and e2fsprogs.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import corpus
import support
from checks import damage, lost, read_state

IMAGE_MIB = 32
PICTURES = 80


class Disk:
    """An ext4 file system in an image file, mounted."""

    def __init__(self, image: Path, mounted: Path) -> None:
        self.image, self.mounted = image, mounted
        mounted.mkdir(parents=True, exist_ok=True)

    def make(self) -> None:
        """Make a new one, and mount it."""
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_MIB << 20)
        _run("mkfs.ext4", "-q", "-F", "-b", 4096, "-m", 0, self.image)
        self.mount()

    def mount(self) -> None:
        """Mount it."""
        _run("mount", "-o", "loop", self.image, self.mounted)

    def unmount(self) -> None:
        """Unmount it, if it is mounted."""
        subprocess.run(["umount", self.mounted], capture_output=True)

    def snapshot(self, target: Path) -> bool:
        """Copy the image as it is at one moment; False if it does not come to rest."""
        before = b""
        for _ in range(20):
            data = self.image.read_bytes()
            if data == before:
                target.write_bytes(data)
                return True
            before = data
        return False


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{command} ended with {done.returncode}: {done.stderr.strip()}")


def commands(folder: Path, library: Path) -> list[list[object]]:
    """Return what one run does: all that writes."""
    photos = folder / "photos"
    export = (folder / "export.npy", folder / "export.jsonl")
    return [
        corpus.index(library, photos, batch=4),
        corpus.bring(library, export),
        ["build", "--index", "pq4", "--library", library],
        ["label", "--labels", "red,green,blue", "--save", "--library", library],
        ["forget", export[0], "--library", library],
        corpus.index(library),
    ]


class Cuts:
    """Power cuts of one library after the other."""

    def __init__(self, folder: Path, careless: bool) -> None:
        self.folder, self.careless = folder, careless
        self.disk = Disk(folder / "disk.img", folder / "disk")
        self.copy = Disk(folder / "copy.img", folder / "copy")
        self.acknowledged = folder / "acknowledged"
        self.failures: list[str] = []
        self.states: list[dict[str, Any]] = []
        self.trials = 0

    def learn(self) -> None:
        """Note the state after each command, and the time that all of them take."""
        library = self.folder / "plain" / "lib"
        self.states = [{}]
        for arguments in commands(self.folder, library):
            ended = support.fork(lambda arguments=arguments: support.command(*arguments))
            if ended.code:
                raise RuntimeError(ended.out)
            self.states.append(read_state(library))

    def run(self, chance: random.Random, most: int) -> None:
        """Write once through all commands, and cut the power at random moments meanwhile."""
        self.disk.make()
        try:
            self.acknowledged.write_text("")
            victim = support.Victim(self._write)
            time.sleep(chance.uniform(0, 0.1))
            while victim.is_running() and self.trials < most:
                os.kill(victim.process, signal.SIGSTOP)
                time.sleep(0.002)
                lines = self.acknowledged.read_text().splitlines()
                is_taken = self.disk.snapshot(self.copy.image)
                os.kill(victim.process, signal.SIGCONT)
                if is_taken:
                    self.trials += 1
                    self.examine(lines)
                time.sleep(chance.uniform(0, 0.15))
            victim.kill()
            ended = victim.wait()
            if ended.code not in (0, -9):
                self.failures.append(f"the writer ended with {ended.code}: {ended.out[-300:]}")
        finally:
            self.disk.unmount()

    def _write(self) -> int:
        from clipsearch.store.writer import Writer

        if self.careless:
            _forget_to_sync()
        library, descriptor = self.disk.mounted / "lib", os.open(self.acknowledged, os.O_WRONLY | os.O_APPEND)
        commit = Writer.commit

        def noted(writer: Any, batch: Any, *roots: Any) -> Any:
            done = commit(writer, batch, *roots)
            os.write(descriptor, "".join(f"file {each.record.path}\n" for each in batch).encode())
            return done

        Writer.commit = noted  # type: ignore[method-assign]
        for arguments in commands(self.folder, library):
            if support.command(*arguments):
                return 1
            os.write(descriptor, b"command\n")
        return 0

    def examine(self, lines: list[str]) -> None:
        """Look at the copy as after a power cut."""
        done = lines.count("command")
        since = lines[len(lines) - lines[::-1].index("command") :] if done else lines
        paths = [line.removeprefix("file ") for line in since if line.startswith("file ")]
        name = f"cut {self.trials}, in command {done}, {len(paths)} files committed in it"
        repaired = subprocess.run(["e2fsck", "-fy", self.copy.image], capture_output=True, text=True)
        if repaired.returncode > 1:
            self.failures.append(f"{name}: e2fsck ended with {repaired.returncode}: {repaired.stdout[-300:]}")
            return
        self.copy.mount()
        try:
            wrong = support.ask_fork(lambda: self._look(done, paths))
        except RuntimeError as error:
            wrong = [str(error)[-400:]]
        finally:
            self.copy.unmount()
        self.failures += [f"{name}: {line}" for line in wrong[:3]]

    def _look(self, done: int, paths: list[str]) -> list[str]:
        library = self.copy.mounted / "lib"
        now = read_state(library)
        after = self.states[min(done + 1, len(self.states) - 1)]
        wrong = lost(self.states[done], after, now, paths)
        if now.get("items"):
            wrong += damage(library)
        if self.trials % 5 == 0:
            code = support.command(*corpus.index(library, self.folder / "photos"))
            held = {item["path"] for item in read_state(library)["items"].values()}
            missing = {path.name for path in (self.folder / "photos").iterdir()} - held
            if code or missing or damage(library):
                wrong.append(f"the next run ends with {code} and misses {len(missing)} pictures")
        return wrong


def _forget_to_sync() -> None:
    from sqlalchemy import Engine, event

    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    event.listen(Engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous=OFF") and None)


def check_possible(folder: Path) -> None:
    """Exit as skipped where no image can be mounted."""
    missing = [name for name in ("mkfs.ext4", "e2fsck", "mount", "umount") if shutil.which(name) is None]
    if os.name != "posix" or os.geteuid() or missing:
        support.skip(f"needs root and e2fsprogs{f'; missing: {missing}' if missing else ''}")
    disk = Disk(folder / "probe.img", folder / "probe")
    try:
        disk.make()
    except OSError as error:
        support.skip(f"no image can be mounted here: {error}")
    disk.unmount()


def main() -> None:
    parser = support.parser(__doc__, trials=200)
    parser.add_argument("--careless", action="store_true", help="the control: no fsync; it must fail")
    given = parser.parse_args()
    support.quiet()
    with support.workplace() as folder:
        check_possible(folder)
        support.warm(support.cache(folder))
        corpus.pictures(folder / "photos", PICTURES)
        corpus.export(folder, "export", 400, 3)
        cuts, chance = Cuts(folder, given.careless), random.Random(given.seed)
        cuts.learn()
        while cuts.trials < given.trials:
            cuts.run(chance, given.trials)
        failed = len({line.split(":")[0] for line in cuts.failures})
        kind = "no fsync at all" if given.careless else "clipsearch"
        name = "power_cut_control" if given.careless else "power_cut"
        rows = [{"writer": kind, "cuts": cuts.trials, "failed": failed}]
        support.report(name, given, rows, cuts.failures)


if __name__ == "__main__":
    main()
