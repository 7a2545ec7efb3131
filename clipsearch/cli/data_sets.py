"""Options of how data sets are read, which several commands share."""

from __future__ import annotations

import click

from clipsearch.cli.options import F


def data_set_options(command: F) -> F:
    """Add --columns, --pictures and --fetch-urls; `indexer.data_sets.make_options` reads them."""
    command = click.option(
        "--fetch-urls/--no-fetch-urls",
        default=None,
        help="Fetch the pictures that tables name by http and https URLs; else such rows are indexed by their "
        "captions. Kept for later runs.",
    )(command)
    command = click.option(
        "--pictures",
        metavar="DIR",
        help="The folder that the paths in tables start from and stay in; the default is that of each table. Kept for "
        "later runs.",
    )(command)
    return click.option(
        "--columns",
        multiple=True,
        metavar="ROLE=COLUMN",
        help="Which columns of a table hold the image, the caption and the id, such as image=photo,caption=alt_text; "
        "by default those with the usual names. Kept for later runs.",
    )(command)
