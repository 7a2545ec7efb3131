"""clipsearch trust."""

from __future__ import annotations

import click

from clipsearch.cli.options import json_option, note, write_bytes, write_line
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable


@click.command()
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List the encoders and servers that you trust.")
@click.option("--remove", metavar="NAME", help="Stop trusting this encoder or server.")
@json_option
def trust(name: str | None, listing: bool, remove: str | None, as_json: bool) -> None:
    """Allow libraries to load a model, or ask a server: NAME.

    \b
    clipsearch trust 'local-dir:/models/my-clip'
    clipsearch trust http://127.0.0.1:19530
    clipsearch trust --list
    clipsearch trust --remove 'local-dir:/models/my-clip'

    NAME is local-dir:PATH, onnx-dir:PATH, hf-hub:ORG/NAME or hf-onnx:ORG/NAME, or the address of a Milvus server. A
    library may come from a stranger, so it cannot load such a model, or connect to a server, without your permission.
    A model that you named with --model, or as `model` in your settings, is already trusted, and so is a server that you
    named with `build --uri`. Trust in a folder covers its present files: after they change, you are asked again. A
    model never runs Python code of its own, trusted or not.
    """  # noqa: D301 - click wants the character itself
    if (name is not None) + listing + (remove is not None) != 1:
        raise InvalidInputError("Name one encoder or server to trust, or use one of --list and --remove NAME.")
    if as_json and not listing:
        raise InvalidInputError("--json works only with --list. Add --list.")
    if listing:
        _list(as_json)
    elif remove is not None:
        _remove(remove)
    elif name is not None:
        _add(name)


def _list(as_json: bool) -> None:
    from clipsearch import present
    from clipsearch.ann import server_trust
    from clipsearch.encoders.names import OPENCLIP
    from clipsearch.encoders.trust import list_trusted

    found = [{"name": each.name.removeprefix(OPENCLIP), "content": each.content} for each in list_trusted()]
    found += [{"name": uri, "content": None} for uri in server_trust.list_trusted()]
    if as_json:
        write_bytes(present.to_json(found))
        return
    for each in found:
        write_line(printable(str(each["name"])))
    if not found:
        note("You trust no encoder from a folder or a hub yet, and no server.")


def _remove(name: str) -> None:
    from clipsearch.ann import server_trust
    from clipsearch.encoders import names, trust

    if server_trust.is_server_uri(name):
        server_trust.forget(server_trust.read_uri(name))
        note(f"Libraries can no longer connect to {printable(name)} without your permission.")
        return
    trust.forget(names.resolve(name, offline=True).name)
    note(f"Libraries can no longer load {printable(name)} without your permission.")


def _add(name: str) -> None:
    from clipsearch.ann import server_trust
    from clipsearch.encoders import export_folder, names, trust

    if server_trust.is_server_uri(name):
        server_trust.remember(server_trust.read_uri(name))
        note(f"Libraries can now connect to {server_trust.read_uri(name)}.")
        return
    resolved = names.resolve(name, offline=True).name
    if not trust.needs_trust(resolved):
        note(f"{printable(resolved)} needs no trust: any library may load it.")
        return
    folder = export_folder.local_folder(resolved)
    if folder is not None and not folder.is_dir():
        raise InvalidInputError(f"There is no folder {printable(str(folder))}. Check the path.")
    trust.remember(trust.describe(resolved, read=True))
    note(f"Libraries can now load {printable(resolved.removeprefix(names.OPENCLIP))}.")
