"""Load a model with open_clip and torch, and say what is wrong when that fails."""

from __future__ import annotations

import contextlib
import difflib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipsearch.encoders import hub, model_files
from clipsearch.encoders.preprocessing import PictureTransform
from clipsearch.errors import EncoderError, EncoderUnavailableError

log = logging.getLogger("clipsearch")

LOCAL = "local-dir:"
HUB = "hf-hub:"
ALTERNATIVES = (
    "Use the builtin encoder (`--model builtin`) or a folder with the weights (`--model local-dir:PATH`). In Python: "
    "clipsearch.open(DIR, create=True, model=...)."
)
_CHATTY = ("torch", "onnxscript", "onnx_ir", "onnxruntime", "transformers", "huggingface_hub", "timm", "httpx")


@dataclass(frozen=True, slots=True)
class Reference:
    """A model as open_clip loads it, on the CPU, ready to be exported.

    name: canonical, without `openclip:`. tokenizer: what open_clip.get_tokenizer returned.
    """

    name: str
    model: Any
    tokenizer: Any
    picture: PictureTransform
    context_length: int


def fetch(name: str, *, offline: bool) -> Reference:
    """Load a model, from this machine if it is there, else from the hub.

    name: as for load_reference. offline: make no connection.
    Raises EncoderUnavailableError with the reason and the alternatives.
    """
    try:
        return _fetch(name, offline)
    except ImportError as error:
        package = "open_clip_torch" if error.name == "open_clip" else error.name
        raise EncoderUnavailableError(
            f"{name} needs a package that cannot be imported: {error}. Install it (`pip install {package}`). "
            + ALTERNATIVES
        ) from error


def _fetch(name: str, offline: bool) -> Reference:
    repo = _repository(name)
    try:
        with hub.local_only():
            return load_reference(name)
    except (EncoderError, ImportError):
        raise
    except Exception as error:
        if repo is None or _refused_code(error):
            raise EncoderUnavailableError(_local_failure(name, error)) from error
        _require_hub(name, repo, error, offline=offline)
    try:
        log.info("Fetching the weights of %s; this happens once.", name)
        return load_reference(name)
    except (EncoderError, ImportError):
        raise
    except Exception as error:
        reason = _refused_code(error) or f"{brief(error)}."
        raise EncoderUnavailableError(f"{name} cannot be loaded from the hub: {reason} {ALTERNATIVES}") from error


def _repository(name: str) -> str | None:
    """Return the hub's name of the repository, or None for a local model, after checking that the name can be right."""
    if name.startswith(LOCAL):
        _check_folder(Path(name.removeprefix(LOCAL)))
        return None
    if name.startswith(HUB):
        return name.removeprefix(HUB)
    from_catalogue = known_repositories()
    architecture, tag = split_name(name)
    if (found := from_catalogue.get(f"{architecture}/{tag}")) is not None:
        return found
    close = difflib.get_close_matches(name, from_catalogue, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise EncoderUnavailableError(f"open_clip has no model {name!r}.{hint} {ALTERNATIVES}")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise EncoderUnavailableError(f"The model folder {folder} does not exist. Check the path. {ALTERNATIVES}")
    if not (folder / "open_clip_config.json").is_file():
        raise EncoderUnavailableError(
            f"The model folder {folder} has no open_clip_config.json. Copy it from where the weights came from. "
            + ALTERNATIVES
        )
    if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in folder.iterdir()):
        raise EncoderUnavailableError(
            f"The model folder {folder} has no weights: no .safetensors, .bin or .pth file. Copy them there. "
            + ALTERNATIVES
        )


def _local_failure(name: str, error: Exception) -> str:
    if (reason := _refused_code(error)) is not None:
        return f"{name} cannot be loaded: {reason} {ALTERNATIVES}"
    return (
        f"{name} cannot be loaded; its files may be damaged, incomplete or mismatched: {brief(error)}. "
        f"Copy the folder again. {ALTERNATIVES}"
    )


def _refused_code(error: Exception) -> str | None:
    """Say what of a model was not run, if that is what its loading failed of."""
    said = str(error)
    if "trust_remote_code" in said:
        return model_files.remote_code("its own class of transformers")
    if "weights_only" in said:
        return (
            "its weights are a pickle or a TorchScript archive that holds more than tensors, which is never run. "
            "Save them as .safetensors."
        )
    return None


def _require_hub(name: str, repo: str, error: Exception, *, offline: bool) -> None:
    if hub.is_offline(offline):
        raise EncoderUnavailableError(
            f"{name} is incomplete on this machine ({brief(error)}), and offline mode forbids fetching it. "
            f"Go online once. {ALTERNATIVES}"
        ) from error
    if not hub.answers(repo):
        raise EncoderUnavailableError(
            f"{name} is incomplete on this machine ({brief(error)}), and the model hub cannot be reached. "
            f"Check the network, or HF_ENDPOINT for a mirror. {ALTERNATIVES}"
        ) from error


def brief(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200].rstrip('.')}"


def load_reference(name: str) -> Reference:
    """Load weights and tokenizer, from the hub library's cache or the network as its settings allow.

    name: `ARCH/PRETRAINED`, `hf-hub:ORG/NAME` or `local-dir:PATH`.
    Raises whatever open_clip raises; `fetch` maps it.
    """
    with quiet():
        import open_clip

        architecture, tag = (name, None) if name.startswith((LOCAL, HUB)) else split_name(name)
        _check_files(architecture)
        _find_weights(architecture, tag)
        config = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
        text_config = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {})
        refusal = {"trust_remote_code": False} if text_config.get("hf_tokenizer_name") else {}
        with model_files.without_code():
            model = open_clip.create_model(
                architecture,
                tag,
                require_pretrained=True,
                weights_only=True,
                pretrained_text=False,
                # open_clip only warns when weights made for another activation are put into an architecture.
                force_quick_gelu=bool(config.get("quick_gelu")),
            )
            tokenizer = open_clip.get_tokenizer(architecture, **refusal)
    model.eval()
    context_length = int(tokenizer.context_length or text_config.get("context_length", 77))
    transform = PictureTransform.from_open_clip(model.visual.preprocess_cfg)
    return Reference(name, model, tokenizer, transform, context_length)


def split_name(name: str) -> tuple[str, str]:
    """Split `ARCH/PRETRAINED` at its last slash."""
    architecture, _, tag = name.rpartition("/")
    return architecture, tag


def known_repositories() -> dict[str, str]:
    """Map every `ARCH/PRETRAINED` of the installed open_clip to its repository on the hub."""
    with quiet():
        import open_clip

        pairs = open_clip.list_pretrained()
        configs = {f"{name}/{tag}": open_clip.get_pretrained_cfg(name, tag) for name, tag in pairs}
    return {name: str(config.get("hf_hub", "")).strip("/") for name, config in configs.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and the log of the libraries below for a while; open_clip logs to the root logger."""
    root, hush = logging.getLogger(), lambda record: False
    # Without a handler on the root logger, the first message to it would install one that prints.
    guard = logging.NullHandler()
    loggers = {logger: logger.level for logger in map(logging.getLogger, _CHATTY)}
    root.addHandler(guard)
    root.addFilter(hush)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(hush)
        root.removeHandler(guard)
        for logger, level in loggers.items():
            logger.setLevel(level)


def _check_files(architecture: str) -> None:
    """Refuse the files of a model that name code, before any is loaded."""
    if architecture.startswith(LOCAL):
        model_files.check_folder(Path(architecture.removeprefix(LOCAL)))
    elif architecture.startswith(HUB):
        from open_clip import pretrained

        repository = architecture.removeprefix(HUB)
        path = Path(pretrained.download_pretrained_from_hf(repository, filename=model_files.CONFIG))
        model_files.check_folder(path.parent)


def _find_weights(architecture: str, tag: str | None) -> None:
    # Asked first, because create_model builds a whole model before it finds that there are no weights.
    from open_clip import pretrained

    if tag:
        pretrained.download_pretrained(pretrained.get_pretrained_cfg(architecture, tag))
    elif architecture.startswith(HUB):
        pretrained.download_pretrained_from_hf(architecture.removeprefix(HUB))
