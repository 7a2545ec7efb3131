"""Coverage-guided fuzzing with atheris of what tests/media/test_fuzz.py runs with hypothesis; the targets are the same.

    python -m pip install atheris          # CPython 3.11 to 3.13; no dependency of the project
    python benchmarks/reliability/fuzz.py --target xmp --seconds 300
    python benchmarks/reliability/fuzz.py --seconds 60                 # every target in turn

Starts from tests/support/corpus/TARGET and what was found before, which is kept under build/fuzz/TARGET. An input that
crashes, takes longer than 20 s or more than 2 GiB ends its target and is left in build/fuzz/ for a look; it belongs
into tests/support/corpus/TARGET once its fault is mended.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "fuzz"


def main() -> None:
    """Fuzz one target in this process, or every one in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target")
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.target:
        fuzz(arguments.target, arguments.seconds)
        return
    from tests.support.fuzz_targets import TARGETS

    failed = []
    for name in TARGETS:
        command = [sys.executable, __file__, "--target", name, "--seconds", str(arguments.seconds)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
        last = [line for line in done.stderr.splitlines() if "DONE" in line or "ERROR" in line or "Error" in line]
        print(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'} {' '.join(last[-1:])}", flush=True)
        failed += [name] if done.returncode else []
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def fuzz(target: str, seconds: int) -> None:
    """Fuzz until the time is over; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["clipsearch", "indexer"]):
        from tests.support.fuzz_targets import CORPUS, TARGETS
    kept = KEPT / target
    kept.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=65536"]
    folders = [str(kept), str(CORPUS / target)]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={KEPT}/{target}-", *folders], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
