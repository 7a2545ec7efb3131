"""Find a model that is ONNX already: in a folder, or in a repository of the hub, of which it fetches what is needed.

All files are of one revision: the first that is asked for names the commit of the others.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clipsearch.encoders import hub, names
from clipsearch.encoders.onnx_files import CONFIG, NEEDED, TEXTUAL, VISUAL, OnnxFolder
from clipsearch.errors import EncoderError, EncoderUnavailableError

log = logging.getLogger("clipsearch")


def find(name: str, *, offline: bool) -> OnnxFolder:
    """Return where the files of a model are, after fetching them from the hub if that is where it comes from.

    name: canonical, `onnx-dir:PATH` or `hf-onnx:ORG/NAME`. offline: make no connection.
    Raises EncoderUnavailableError with the reason and what to do.
    """
    if name.startswith(names.ONNX_DIR):
        path = Path(name.removeprefix(names.ONNX_DIR))
        if not path.is_dir():
            raise EncoderUnavailableError(f"The model folder {path} does not exist. Check the path.")
        return OnnxFolder(path, path)
    repository = name.removeprefix(names.ONNX_HUB)
    return _cached(repository) or _fetch(name, repository, offline)


def _cached(repository: str) -> OnnxFolder | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(repository, CONFIG)
    except ValueError:  # no name of a repository; the hub's library says what is wrong with it
        return None
    if not isinstance(config, str):
        return None
    folder = _folder(Path(config))
    if not all((folder.path / file).is_file() for file in NEEDED):
        return None
    weights = [file for side in (VISUAL, TEXTUAL) for file in folder.weights(side)]
    return folder if all((folder.path / file).is_file() for file in weights) else None


def _fetch(name: str, repository: str, offline: bool) -> OnnxFolder:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

    missing = f"{name} is not on this machine, or not all of it"
    otherwise = (
        "Until then use the builtin encoder (`--model builtin`; in Python: clipsearch.open(DIR, create=True, "
        "model='builtin')) or a folder with the files (`onnx-dir:PATH`)."
    )
    if hub.is_offline(offline):
        raise EncoderUnavailableError(f"{missing}, and offline mode forbids fetching it. Go online once. {otherwise}")
    if not hub.answers(repository):
        raise EncoderUnavailableError(
            f"{missing}, and the model hub cannot be reached. Check the network, or HF_ENDPOINT for a mirror. "
            + otherwise
        )
    try:
        log.info("Fetching %s; this happens once.", name)
        folder = _folder(Path(hf_hub_download(repository, CONFIG)))
        revision = folder.path.name
        for file in NEEDED:
            hf_hub_download(repository, file, revision=revision)
        for file in (file for side in (VISUAL, TEXTUAL) for file in folder.weights(side)):
            hf_hub_download(repository, file, revision=revision)
    except EncoderError:
        raise
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EncoderUnavailableError(f"The hub has no repository {repository!r}. Check the name.") from error
    except EntryNotFoundError as error:
        raise EncoderUnavailableError(
            f"{name} is not laid out as Immich's repositories are: {str(error).splitlines()[0][:200]}. It needs "
            f"{', '.join(NEEDED)}. A model of open_clip is hf-hub:{repository}."
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        raise EncoderUnavailableError(f"{name} cannot be fetched: {reason}. Try again. {otherwise}") from error
    return folder


def _folder(config: Path) -> OnnxFolder:
    """Return the folder of a revision in the hub library's cache, whose files are links into the same repository."""
    return OnnxFolder(config.parent, config.parent.parent.parent)
