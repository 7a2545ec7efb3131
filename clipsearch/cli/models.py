"""clipsearch models."""

from __future__ import annotations

import textwrap
from dataclasses import asdict

import click

from clipsearch.cli.options import json_option, write_bytes, write_line

WIDTH = 80


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the encoders that you can name with `clipsearch index --model`.

    \b
    clipsearch index ./photos --model builtin

    Any other open_clip model works too: ARCH/PRETRAINED, hf-hub:ORG/NAME or local-dir:PATH. So does one that is ONNX
    already: onnx-dir:PATH or hf-onnx:ORG/NAME. Languages are given by their ISO 639 codes.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.encoders.listing import catalogue

    found = catalogue()
    if as_json:
        write_bytes(present.to_json([asdict(model) for model in found]))
        return
    for model in found:
        names = ", ".join((*model.aliases, model.name))
        state = "ready" if model.ready else "fetched or built on first use"
        write_line(f"{names}\n    {model.dim} dimensions, {model.licence}, {state}\n    {model.note}")
        if model.reads:
            languages = f"reads well: {' '.join(model.reads)}"
            write_line(textwrap.fill(languages, WIDTH, initial_indent="    ", subsequent_indent=" " * 16))
