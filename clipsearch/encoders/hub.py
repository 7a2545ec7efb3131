"""Ask the model hub, or the folder where its library keeps downloads, without ever waiting long."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

_PROBE_SECONDS = 3.0
_WORDS_FOR_TRUE = {"1", "ON", "YES", "TRUE"}
# One of these holds the weights of any model that open_clip publishes.
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_CONFIG = "open_clip_config.json"

_switch = threading.RLock()


def is_offline(offline: bool) -> bool:
    """Say whether connections are forbidden, by the caller or by HF_HUB_OFFLINE."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in _WORDS_FOR_TRUE


def is_cached(repo: str, needed: Sequence[tuple[str, str]] = ()) -> bool:
    """Say whether the weights of a repository are on this machine, and the other files that are needed.

    needed: repository and name of each.
    """
    return any(holds(repo, file) for file in _WEIGHTS) and all(holds(other, file) for other, file in needed)


def holds(repo: str, file: str) -> bool:
    """Say whether a file of a repository is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, file)
    return isinstance(path, str) and os.path.exists(path)


def answers(repo: str) -> bool:
    """Say whether the hub answers at all about a repository, within a few seconds."""
    return _probe(repo) is not None


def offers(repo: str) -> bool:
    """Say whether the hub can hand out a repository, within a few seconds."""
    return _probe(repo) is True


@contextlib.contextmanager
def local_only() -> Iterator[None]:
    """Forbid connections to the hub's library, and so to the libraries that use it, for a while."""
    from huggingface_hub import constants

    with _switch:
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def _probe(repo: str) -> bool | None:
    """Ask for one small file: True if it can be had, False if the hub says no, None if it says nothing."""
    answer: list[bool] = []
    # A name server that does not answer cannot be given a time limit, so the question is asked in a thread
    # that is left behind.
    thread = threading.Thread(target=_ask, args=(repo, answer), name="clipsearch-hub-probe", daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return answer[0] if answer else None


def _ask(repo: str, answer: list[bool]) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo, _CONFIG), timeout=_PROBE_SECONDS)
        answer.append(True)
    except HfHubHTTPError:
        answer.append(False)
    except Exception:
        # Whatever else went wrong, no answer came: that is all the caller asks.
        return
