"""clipsearch plan."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipsearch.cli.build import Size
from clipsearch.cli.options import json_option, note, read_settings, write_bytes, write_line

if TYPE_CHECKING:
    from clipsearch.config import Settings
    from indexer.planning import CapacityPlan, Figure, Rates

_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
MOST_ITEMS = 10**12
_REFERENCE = "openclip:ViT-B-32/laion2b_s34b_b79k"


class Count(click.ParamType[int]):
    """A number of items, such as 1e9, 250k, 3M or 1B."""

    name = "count"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        match = re.fullmatch(r"\s*(\d[\d_]*(?:\.\d+)?(?:e\d{1,2})?)\s*([kmb]?)\s*", str(value).lower())
        count = float(match[1]) * _COUNTS[match[2]] if match else 0.0
        if not 1 <= count <= MOST_ITEMS:
            self.fail(f"{value!r} is not a number of items from 1 to 1e12. Write it as 1e9, 250k or 3M.", param, ctx)
        return int(count)


@click.command()
@json_option
@click.option("--items", type=Count(), required=True, metavar="N", help="How many pictures, such as 1e9, 250k or 3M.")
@click.option("--model", metavar="NAME", help="The encoder, as for `index`.  [default: that of new libraries]")
@click.option(
    "--gpus", type=click.IntRange(0, 100_000), default=0, show_default=True, help="How many GPUs encode, in all."
)
@click.option(
    "--gpu-rate", type=click.FloatRange(0, 1e9, min_open=True), metavar="R", help="Pictures a second of one GPU."
)
@click.option("--captions", is_flag=True, help="Each picture has a caption.")
@click.option(
    "--memory", type=Size(), metavar="SIZE", help="Memory of one machine that searches.  [default: this machine's]"
)
@click.option("--measure", is_flag=True, help="Measure this machine again.")
def plan(
    as_json: bool,
    items: int,
    model: str | None,
    gpus: int,
    gpu_rate: float | None,
    captions: bool,
    memory: int | None,
    measure: bool,
) -> None:
    """Estimate what a library will take: hours, memory, disk and machines.

    \b
    clipsearch plan --items 1e9 --model ViT-L-14/openai --gpus 8 --captions

    The rates of this machine with the encoder are measured for some seconds the first time. Each line says whether its
    number was measured or assumed.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.encoders.names import BUILTINS, resolve
    from indexer.planning import Demand, make_plan

    settings, _ = read_settings(**({"model": model} if model else {}))
    name = resolve(settings.model, offline=True).name
    if name in BUILTINS and gpus:
        note(f"{name} always encodes on the processor, so the GPUs are left out.")
        gpus = 0
    dim, rates = _rates(name, settings, gpu_rate, again=measure)
    demand = Demand(items, dim, captions, gpus, settings.cores, memory or _own_memory())
    made = make_plan(demand, rates)
    if as_json:
        figures = {key: asdict(figure) for key, figure in made.figures.items()}
        whole = {"model": name, "demand": asdict(demand), "figures": figures}
        write_bytes(present.to_json({**whole, "recommendation": asdict(made.recommendation)}))
        return
    _show(name, made)


def _rates(name: str, settings: Settings, gpu_rate: float | None, *, again: bool) -> tuple[int, Rates]:
    """Return the dimensions of an encoder and the rates with it; assumed ones if it is not on this machine.

    Raises EncoderUnavailableError for an encoder of which not even the dimensions are known here.
    """
    from clipsearch.encoders import registry
    from clipsearch.encoders.dimensions import dimension_of, operations_of
    from clipsearch.encoders.listing import identify
    from clipsearch.errors import EncoderUnavailableError
    from indexer.planning import Basis, Figure, assumed_gpu, assumed_rates, here
    from indexer.rates import measured_rates

    operations = operations_of(name)
    gpu = assumed_gpu(operations or operations_of(_REFERENCE) or 8.8e9, name if operations else f"{name}, as ViT-B-32")
    if gpu_rate is not None:
        gpu = Figure(gpu_rate, "pictures/s", Basis.GIVEN, "--gpu-rate")
    try:
        encoder = registry.load(name, threads=settings.cores, offline=True)
        return encoder.dim, here(measured_rates(encoder, settings.cores, again=again), gpu)
    except EncoderUnavailableError:
        dim = identify(name)[1] or dimension_of(name)
        if dim is None:
            raise
        note(f"{name} is not on this machine, so its rates are assumed.")
        return dim, assumed_rates(operations or 8.8e9, settings.cores, gpu)


def _own_memory() -> int:
    """Return the memory of this machine in bytes; 16 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 16 << 30


def _show(name: str, plan: CapacityPlan) -> None:
    """Print a plan as a table."""
    lines = [(key, *_shown(figure), figure.basis, figure.source) for key, figure in plan.figures.items()]
    widths = [max(map(len, column)) for column in list(zip(*lines, strict=True))[:4]]
    write_line(f"{name}\n")
    for key, value, unit, basis, source in lines:
        cells = (key.ljust(widths[0]), value.rjust(widths[1]), unit.ljust(widths[2]), basis.ljust(widths[3]), source)
        write_line("  ".join(cells))
    found = plan.recommendation
    write_line(f"\nRecommended: {found.engine}, index {found.kind}. {found.reason}\n    {found.command}")


def _shown(figure: Figure) -> tuple[str, str]:
    """Return a number and its unit, in three digits."""
    value, unit = figure.value, figure.unit
    if unit == "bytes":
        power = next((power for power in (4, 3, 2) if value >= 1000**power), 0)
        value, unit = value / 1000**power, {4: "TB", 3: "GB", 2: "MB", 0: "bytes"}[power]
    if unit == "s":
        value, unit = 1000 * value, "ms"
    return (f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"), unit
