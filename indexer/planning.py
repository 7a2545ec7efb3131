"""What a library of a given size will take: hours, memory, disk, machines. Arithmetic alone; nothing is measured here.

Every figure says where it comes from. One that is computed is as certain as the least certain that it is made of.
docs/scale.md explains the formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from clipsearch.ann import registry
from clipsearch.ann.coarse import GROUPS_LOOKED_AT, LOOKED_UP_AT_ONCE
from clipsearch.ann.faiss_ivfpq import IvfPqParams
from indexer.rates import HEIGHT, WIDTH, MachineRates

CATALOG_BYTES = 300
"""Bytes of the catalog for an item with a vector: 240 for a record with a short id, 360 for a file with a long path."""

CAPTION_BYTES = 250
"""What a caption of 60 letters adds: its own vector, and the words of full-text search."""

BOOKKEEPING_SECONDS = 0.000_11
"""All else for a file than decoding and encoding; of one writer, however many cores there are."""

ADDED_MULTIPLICATIONS = 15e9
"""Multiplications a second of one core while rows are compared with centroids and coded: half of what comparing with
8,192 of 512 dimensions reached (benchmarks/ann/scale.py)."""

SHARE_OF_MEMORY = 0.5
"""The share of a machine's memory that an index may take; the rest is for the system's cache of rows."""

MOST_ROWS = 100_000_000
"""Rows of a modality in one library. More were not tried, and a build would take days."""

MOST_SHARDS = 16
"""More machines than this are better served by an engine that places and moves its shards itself."""

_SHARE_OF_DEVICE, _DEVICE_OPERATIONS = 1 / 3, 989e12
_PROCESSOR_OPERATIONS = 137e9
"""Of one core a second: ViT-B/32, 8.6 GFLOP a picture, at 31.9 pictures a second on two."""
_DECODING_SECONDS = 0.0034


class Basis(StrEnum):
    """Where a figure comes from, most certain first. computed: from what is given and the format of the files alone."""

    GIVEN = "given"
    COMPUTED = "computed"
    MEASURED = "measured here"
    BENCHMARK = "measured elsewhere"
    ASSUMED = "assumed"


_CERTAINTY = list(Basis)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number. source: who says so, or how it is computed."""

    value: float
    unit: str
    basis: Basis
    source: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What is wanted. memory: bytes of one machine. gpus: in all. dim: of a vector."""

    items: int
    dim: int
    captions: bool
    gpus: int
    cores: int
    memory: int


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a machine is. decoding: seconds of one core. The others: items a second, of the machine or one GPU."""

    decoding: Figure
    pictures: Figure
    texts: Figure
    gpu: Figure


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Which engine serves best. engine: `library`, `shards` or `milvus`. kind: of the index. reason: a sentence."""

    engine: str
    kind: str
    reason: str
    command: str


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """Figures by name, and what follows from them."""

    figures: dict[str, Figure]
    recommendation: Recommendation


def assumed_gpu(operations: float, model: str) -> Figure:
    """Return the assumed rate of one GPU. operations: for one picture; 2 for a multiplication with an addition."""
    work = f"{operations / 1e9:.1f} GFLOP a picture ({model})"
    source = f"{work} at a third of the 989 TFLOP/s of an NVIDIA H100's data sheet (bf16); no GPU was measured"
    return Figure(_SHARE_OF_DEVICE * _DEVICE_OPERATIONS / operations, "pictures/s", Basis.ASSUMED, source)


def here(measured: MachineRates, gpu: Figure) -> Rates:
    """Return the rates of this machine as they were measured."""
    jpeg = f"JPEGs of {WIDTH} x {HEIGHT} pixels, one core"
    return Rates(
        Figure(measured.decoding_seconds, "s", Basis.MEASURED, jpeg),
        Figure(measured.pictures_per_second, "pictures/s", Basis.MEASURED, "the encoder's own batches, all cores"),
        Figure(measured.texts_per_second, "captions/s", Basis.MEASURED, "short texts, all cores"),
        gpu,
    )


def assumed_rates(operations: float, cores: int, gpu: Figure) -> Rates:
    """Return what a machine may reach with an encoder that is not there. operations: of a picture."""
    rate = cores * _PROCESSOR_OPERATIONS / operations
    source = f"{operations / 1e9:.1f} GFLOP a picture, at what ViT-B/32 reached: benchmarks/cpu_encode.py"
    jpeg = f"JPEGs of {WIDTH} x {HEIGHT} pixels, one core: benchmarks/decode_scaling.py"
    return Rates(
        Figure(_DECODING_SECONDS, "s", Basis.BENCHMARK, jpeg),
        Figure(rate, "pictures/s", Basis.ASSUMED, source),
        Figure(rate, "captions/s", Basis.ASSUMED, "as many as pictures"),
        gpu,
    )


def make_plan(demand: Demand, rates: Rates) -> CapacityPlan:
    """Plan a library, or several that share its items out by machine."""
    sizes = _sizes(demand)
    needed = math.ceil(sizes["index memory"].value / (SHARE_OF_MEMORY * demand.memory))
    machines = max(1, needed, math.ceil(demand.items / MOST_ROWS))
    source = f"the index in half of {demand.memory / 2**30:.0f} GiB each; at most {MOST_ROWS:,} pictures each"
    count = demand.items * (1 + demand.captions)
    figures = {
        "rows": Figure(count, "rows", Basis.COMPUTED, "pictures and captions"),
        **_encoding(demand, rates),
        **sizes,
        "machines to search": Figure(machines, "machines", Basis.ASSUMED, source),
        **_building(demand, machines),
    }
    return CapacityPlan(figures, _recommend(demand, machines))


def index_bytes(rows: int, dim: int) -> tuple[str, int, int]:
    """Return the kind of index for a number of rows, and its bytes in memory and on disk: 0 for an exact scan."""
    choice = registry.choose("auto", rows, dim)
    if choice.kind == "flat":
        return choice.kind, 0, 0
    params = IvfPqParams(dim, choice.nlist, choice.m, rows)
    return choice.kind, params.memory(rows), params.disk(rows)


def _encoding(demand: Demand, rates: Rates) -> dict[str, Figure]:
    """Return how long it takes to encode all items."""
    source = f"{demand.cores} cores / decoding"
    decoding = _derived(demand.cores / rates.decoding.value, "pictures/s", source, rates.decoding)
    found = {"decoding": rates.decoding, "decoding on this machine": decoding}
    found |= _on_gpus(demand, rates, decoding) if demand.gpus else _on_the_processor(rates, decoding)
    used = [found["rate of pictures"]]
    if demand.captions:
        used.append(found["rate of captions"])
    else:
        del found["rate of captions"]
    formula = "items / rate of pictures" + (" + items / rate of captions" if demand.captions else "")
    hours = sum(demand.items / rate.value for rate in used) / 3600
    return {**found, "encoding time": _derived(hours, "hours", formula, *used)}


def _on_gpus(demand: Demand, rates: Rates, decoding: Figure) -> dict[str, Figure]:
    towers = demand.gpus * rates.gpu.value
    formula = "GPUs x encoding on a GPU"
    machines = math.ceil(towers / decoding.value)
    as_pictures = "as many as pictures: a text tower has no more operations"
    return {
        "encoding on a GPU": rates.gpu,
        "machines to decode": _derived(
            machines, "machines", f"{formula} / decoding on this machine", rates.gpu, decoding
        ),
        "rate of pictures": _derived(towers, "pictures/s", formula, rates.gpu),
        "rate of captions": Figure(towers, "captions/s", Basis.ASSUMED, as_pictures),
    }


def _on_the_processor(rates: Rates, decoding: Figure) -> dict[str, Figure]:
    rate = 1 / (1 / decoding.value + 1 / rates.pictures.value)
    return {
        "encoding on this machine": rates.pictures,
        "rate of pictures": _derived(
            rate, "pictures/s", "decoding, then encoding, on the same cores", decoding, rates.pictures
        ),
        "rate of captions": rates.texts,
    }


def _building(demand: Demand, machines: int) -> dict[str, Figure]:
    """Return how long the machines, side by side, take to commit their share and to add it to their indexes."""
    share = math.ceil(demand.items / machines)
    seconds = share * (1 + demand.captions) * BOOKKEEPING_SECONDS
    writer = Figure(1 / BOOKKEEPING_SECONDS, "items/s", Basis.BENCHMARK, "benchmarks/pipeline_overhead.py, one writer")
    side_by_side = "each machine its share, beside encoding"
    found = {"committing": writer, "committing time": _derived(seconds / 3600, "hours", side_by_side, writer)}
    choice = registry.choose("auto", share, demand.dim)
    if choice.kind == "flat":
        return found
    rate = ADDED_MULTIPLICATIONS * demand.cores / (demand.dim * _compared(choice.nlist))
    source = f"{demand.cores} cores, {choice.nlist:,} lists: half the speed of benchmarks/ann/scale.py"
    adding = Figure(rate, "rows/s", Basis.ASSUMED, source)
    hours = share * (1 + demand.captions) / rate / 3600
    return {**found, "adding": adding, "index time": _derived(hours, "hours", "each machine its share", adding)}


def _compared(lists: int) -> float:
    """Return with how many centroids a row is compared."""
    if lists <= LOOKED_UP_AT_ONCE:
        return lists
    groups = round(math.sqrt(lists))
    return groups + GROUPS_LOOKED_AT * lists / groups


def _sizes(demand: Demand) -> dict[str, Figure]:
    """Return bytes in memory and on disk."""
    kind, memory, disk = index_bytes(demand.items, demand.dim)
    each = 1 + demand.captions
    layout = Figure(0, "", Basis.COMPUTED, "")
    per_item = CATALOG_BYTES + (CAPTION_BYTES if demand.captions else 0)
    catalog = Figure(
        demand.items * per_item, "bytes", Basis.BENCHMARK, f"{per_item} bytes an item: tests/indexer/test_planning.py"
    )
    vectors = _derived(2 * demand.dim * demand.items * each, "bytes", f"2 x {demand.dim} bytes a row", layout)
    index = _derived(disk * each, "bytes", f"layout of {kind}", layout)
    total = vectors.value + index.value + catalog.value
    return {
        "index memory": _derived(memory * each, "bytes", f"layout of {kind}", layout),
        "vectors on disk": vectors,
        "index on disk": index,
        "catalog on disk": catalog,
        "disk": _derived(total, "bytes", "vectors + index + catalog; twice the index while it is built", catalog),
    }


def _recommend(demand: Demand, machines: int) -> Recommendation:
    """Choose the simplest engine that serves the library."""
    kind = index_bytes(max(1, demand.items // machines), demand.dim)[0]
    if machines == 1:
        reason = "One machine of this memory holds the index."
        return Recommendation("library", kind, reason, "clipsearch index SOURCE")
    if machines <= MOST_SHARDS:
        reason = f"{machines} libraries, searched as one, each on a machine of this memory."
        return Recommendation("shards", kind, reason, "clipsearch query --shards A,B TEXT")
    reason = (
        f"The index needs {machines} machines of this memory: an engine that places its own shards serves it better."
    )
    return Recommendation("milvus", "ivf_pq", reason, "clipsearch build --index milvus --uri URI")


def _derived(value: float, unit: str, source: str, *inputs: Figure) -> Figure:
    """Return a figure that is as certain as the least certain of its inputs."""
    return Figure(value, unit, max((each.basis for each in inputs), key=_CERTAINTY.index), source)
