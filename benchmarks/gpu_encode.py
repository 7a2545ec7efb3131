"""Pictures a second on GPUs: the tower, our encoder, each stage of the pipeline, whole runs, clip-retrieval's loop.

    python benchmarks/gpu_encode.py [--models A,B] [--budget SECONDS] [--pictures FOLDER] [--out FOLDER]

For a short visit to a machine with a GPU: the result is kept after each phase, a phase that fails does not end the run,
and the budget is shared out, so that no model goes without. Weights are random, which changes no time. Pictures are
made once in the folder named. --clip-retrieval: where `pip install --no-deps --target FOLDER clip-retrieval` put that
package, whose own reader is used then; without it, a DataLoader with the arguments that its reader passes. --out also
gets a trace of a run. --tiny runs every step once with a tiny model, on whatever device there is.
"""

import argparse
import functools
import gc
import tempfile
from pathlib import Path

import torch
from gpu import peer, pipelines, towers
from gpu.pictures import keep_pictures, keep_small_files
from gpu.session import Phase, Session, describe_gpus
from gpu.towers import synchronize
from harness import RESULTS

from clipsearch.config import Settings
from clipsearch.encoders.torch_runtime import COMMIT_BATCH, DEVICE_BATCH

MODELS = ("ViT-B-32", "ViT-L-14")
# Dense bfloat16 rates of the data sheets, in TFLOP/s, by the end of the name that torch gives.
DATA_SHEET = {
    "H200": 989,
    "H100 80GB HBM3": 989,
    "H100 PCIe": 756,
    "A100-SXM4-40GB": 312,
    "A100-SXM4-80GB": 312,
    "A100 80GB PCIe": 312,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
    "A10": 125,
}
SIDE, FILES, SMALL_FILES = 512, 40_960, 20_000


class Sizes:
    """Workload sizes: full, or tiny for a test run."""

    def __init__(self, tiny: bool, files: int) -> None:
        self.tiny = tiny
        self.files = 192 if tiny else files
        self.small_files = 100 if tiny else SMALL_FILES
        self.towers = (8, 16) if tiny else (64, 128, 256, 512, 1024)
        self.device = (16,) if tiny else (DEVICE_BATCH, 512)
        self.call = 16 if tiny else COMMIT_BATCH
        self.peer = 16 if tiny else 256
        self.scale = 0.02 if tiny else 1.0


def main() -> None:
    """Measure each model, and keep the result where there is a GPU."""
    given = parse()
    if given.count:
        for name in given.models.split(","):
            print(f"{name}: {towers.count_flops(towers.load(name)) / 1e9:.1f} GFLOP a picture")
        return
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if not devices and not given.tiny:
        print("There is no CUDA GPU here; --tiny shows that everything runs.")
        return
    if not devices:
        torch.set_num_threads(1)  # the threads of a shared processor wait for each other in the bare loop only
        devices = ["cpu"]
    sizes = Sizes(given.tiny, given.files)
    folder = given.out or (None if given.tiny else RESULTS)
    with tempfile.TemporaryDirectory() as scratch:
        kept = given.pictures or Path(scratch)
        values = describe_gpus(devices) | {"files": f"{sizes.files} JPEG of {SIDE} x {SIDE}"}
        session = Session(values, given.budget, folder)
        photos = keep_pictures(kept, sizes.files, SIDE)
        small = keep_small_files(kept, sizes.small_files)
        models = (towers.TINY,) if given.tiny else given.models.split(",")
        session.run([ModelBenchmark(name, devices, photos, small, Path(scratch), sizes, given) for name in models])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), metavar="A,B")
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--files", type=int, default=FILES, help=f"how many pictures, by default {FILES}")
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--clip-retrieval", type=Path, metavar="FOLDER")
    parser.add_argument("--count", action="store_true", help="only count the operations of a picture, anywhere")
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


class ModelBenchmark:
    """The phases of one model, which is loaded when the first of them begins."""

    def __init__(self, name, devices, photos, small, scratch, sizes, given) -> None:
        self.name, self.devices, self.device = name, devices, devices[0]
        self.photos, self.small, self.scratch, self.sizes, self.given = photos, small, scratch, sizes, given
        self.best = sizes.towers[0]

    @functools.cached_property
    def reference(self):
        """The model, on the processor."""
        return towers.load(self.name)

    @functools.cached_property
    def tower(self):
        """Its image tower, on the device."""
        return towers.build(self.reference, self.device)

    @functools.cached_property
    def encoder(self):
        """Our encoder with the smallest batch on the device."""
        return self.encoder_of(self.sizes.device[0])

    def encoder_of(self, device_batch: int):
        """Make our encoder with a batch on the device."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        return pipelines.make_encoder(self.reference, self.devices, folder, device_batch)

    def close(self) -> None:
        """Give back the memory of the model."""
        for name in ("encoder", "tower", "reference"):
            self.__dict__.pop(name, None)
        torch.compiler.reset()
        gc.collect()
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def phases(self) -> list[Phase]:
        """List the phases in order, what matters most first, and last what may end the process."""
        side, cores = towers.picture_side(self.name), Settings().cores
        entries = [
            ("load", 10, 0, lambda seconds: self.load()),
            ("eager", 20, 5, self.eager),
            ("operations", 5, 1, self.operations),
            ("upload", 2, 1, lambda seconds: towers.upload_rate(self.reference, self.device, seconds), side),
            ("from_memory", 10, 3, lambda seconds: self.from_memory(self.encoder, seconds)),
            ("decode_threads", 8, 2, lambda seconds: self.decode(False, seconds), side),
            ("decode_workers", 8, 3, lambda seconds: self.decode(True, seconds), side),
            ("bookkeeping", 8, 5, lambda seconds: pipelines.bookkeeping(cores, self.small), ()),
            ("index", 40, 8, lambda seconds: self.index(self.encoder, seconds)),
            ("peer", 30, 10, self.peer),
            ("compiled", 90, 30, lambda seconds: self.on_best(towers.compiled, seconds)),
            ("jpeg_on_device", 12, 4, self.jpeg_on_device, side),
        ]
        if self.device != "cpu":
            entries.append(("graph", 10, 2, lambda seconds: self.on_best(towers.graphed, seconds)))
        for batch in self.sizes.device[1:]:
            entries.append((f"from_memory_{batch}", 10, 3, functools.partial(self.with_batch, batch)))
        if self.given.out:
            entries.append(("trace", 15, 5, self.trace))
        scale = self.sizes.scale
        return [
            Phase(name, wants * scale, least * scale, work, (name, *shared) if shared else None)
            for name, wants, least, work, *shared in entries
        ]

    def load(self) -> dict:
        """Load the model, and put its tower on the device."""
        weights = sum(each.numel() for each in self.reference.model.visual.parameters())
        synchronize(next(self.tower.parameters()).device)
        return {"million_weights_of_the_tower": round(weights / 1e6, 1)}

    def eager(self, seconds: float) -> dict:
        """Measure the tower, and remember its best batch size."""
        found = towers.eager(self.tower, self.reference, self.device, self.sizes.towers, seconds)
        self.best = found["at_batch"]
        return found

    def on_best(self, measure, seconds: float) -> dict:
        """Measure the tower in another form at its best batch size."""
        return measure(self.tower, self.reference, self.device, self.best, seconds)

    def operations(self, seconds: float) -> dict:
        """Count operations of a picture, and measure a large product."""
        return {
            "gflop_a_picture": round(towers.count_flops(self.reference) / 1e9, 3),
            "matmul_tflops": round(towers.matmul_rate(self.device) / 1e12, 3),
        }

    def from_memory(self, encoder, seconds: float) -> dict:
        """Measure our encoder from memory."""
        return pipelines.from_memory(encoder, self.reference, self.sizes.call, seconds)

    def with_batch(self, batch: int, seconds: float) -> dict:
        """Measure our encoder from memory with another batch on the device."""
        return self.from_memory(self.encoder_of(batch), seconds)

    def decode(self, isolate: bool, seconds: float) -> dict:
        """Measure decoding alone."""
        return pipelines.decode_alone(self.encoder, self.photos, isolate, seconds)

    def index(self, encoder, seconds: float) -> dict:
        """Measure a run."""
        return pipelines.from_files(encoder, self.photos, self.sizes.call, seconds)

    def peer(self, seconds: float) -> dict:
        """Measure clip-retrieval's loop."""
        with tempfile.TemporaryDirectory() as output:
            return peer.encode_folder(
                self.reference,
                self.device,
                self.photos,
                Path(output),
                size=self.sizes.peer,
                package=self.given.clip_retrieval,
                seconds=seconds,
            )

    def jpeg_on_device(self, seconds: float) -> dict:
        """Measure decoding on the device."""
        with tempfile.TemporaryDirectory() as scratch:
            side = towers.picture_side(self.name)
            return pipelines.jpeg_on_device(self.photos, Path(scratch), self.device, side, seconds)

    def trace(self, seconds: float) -> dict:
        """Keep a trace of a few batches of a run."""
        path = self.given.out / f"gpu_encode_{self.name}_trace.json.gz"
        return pipelines.trace(self.encoder, self.photos, self.sizes.call, path, max(1.0, seconds))

    def row(self, found: dict[str, dict]) -> dict:
        """Return the row of the table; None for what was not measured."""

        def per_second(phase: str) -> int | None:
            return found.get(phase, {}).get("per_second")

        bare, memory, index, peer_rate = (per_second(name) for name in ("eager", "from_memory", "index", "peer"))
        everything = bare and bare * len(self.devices)
        gflop = found["operations"].get("gflop_a_picture")
        name = f" {torch_name(self.device)}"
        sheet = next((rate for end, rate in DATA_SHEET.items() if name.endswith(f" {end}")), None)
        return {
            "model": self.name,
            "bare_per_second": bare,
            "at_batch": found["eager"].get("at_batch"),
            "compiled_per_second": per_second("compiled"),
            "graph_per_second": per_second("graph"),
            "from_memory_per_second": memory,
            "share_of_bare": everything and memory and round(memory / everything, 3),
            "gflop_a_picture": gflop,
            "mfu_by_data_sheet": sheet and bare and gflop and round(bare * gflop / (1000 * sheet), 3),
            "decode_threads_per_second": per_second("decode_threads"),
            "decode_workers_per_second": per_second("decode_workers"),
            "bookkeeping_per_second": per_second("bookkeeping"),
            "index_per_second": index,
            "clip_retrieval_per_second": peer_rate,
            "index_over_clip_retrieval": index and peer_rate and round(index / peer_rate, 2),
        }


def torch_name(device: str) -> str:
    """Return torch's name of a GPU, "" for the processor."""
    return "" if device == "cpu" else torch.cuda.get_device_name(device)


if __name__ == "__main__":
    main()
