"""Names of encoders, and what they mean."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from clipsearch.encoders import export_folder
from clipsearch.encoders.export_folder import exports_root
from clipsearch.errors import EncoderUnavailableError

AUTO = "auto"
OPENCLIP = "openclip:"
LOCAL = "local-dir:"
HUB = "hf-hub:"
ONNX_DIR = "onnx-dir:"
ONNX_HUB = "hf-onnx:"
FROM_FOLDERS = (OPENCLIP + LOCAL, ONNX_DIR)
FROM_ELSEWHERE = (*FROM_FOLDERS, OPENCLIP + HUB, ONNX_HUB)
"""How canonical names start of encoders that a library may not load by its own word."""

DEFAULT_BUILTIN = "builtin-base"
BUILTINS = ("builtin-small", "builtin-base")

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def switch_command(preset: str) -> str:
    """Return the command that makes a new library with the encoder of a preset."""
    return f"clipsearch index --model {preset} --library NEW_FOLDER PHOTOS"


@dataclass(frozen=True, slots=True)
class Preset:
    """An open_clip model with a short name.

    name: canonical. repository: where its weights are on the hub. needed: repository and name of other files.
    """

    name: str
    repository: str
    needed: tuple[tuple[str, str], ...]
    dim: int
    licence: str
    note: str


# All may be used commercially. MobileCLIP, DFN and MetaCLIP 2 may not, so they are never a preset.
# fast: the smallest download and the cheapest towers whose answers are still good: 50 tokens a picture against
#   64, and a causal text tower of half the width that stops where the text ends. English only. Of the weights of
#   this cost, those with the best retrieval (docs/encoders.md).
# default: many languages; text to picture R@1 on COCO 47.2, the most of any model of this cost.
# multilingual: of the same cost; reads languages well that the default reads less well, and English a little worse.
# best: the default's family at 400 million parameters and 384 pixels. Its sister at 512 pixels costs nearly twice as
#   much per picture, and the next size, of 1.1 billion parameters, two and a half times, for little more.
PRESETS = {
    "fast": Preset(
        "openclip:ViT-B-32/laion2b_s34b_b79k",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        (),
        512,
        "MIT",
        "fastest and smallest (0.6 GB), English",
    ),
    "default": Preset(
        "openclip:ViT-B-32-SigLIP2-256/webli",
        "timm/ViT-B-32-SigLIP2-256",
        (("timm/ViT-B-32-SigLIP2-256", "tokenizer.json"),),
        768,
        "Apache-2.0",
        "good answers in many languages (1.5 GB)",
    ),
    "multilingual": Preset(
        "openclip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        (("xlm-roberta-base", "config.json"), ("xlm-roberta-base", "tokenizer.json")),
        512,
        "MIT",
        "good answers in more languages, less good in English (1.5 GB)",
    ),
    "best": Preset(
        "openclip:ViT-SO400M-16-SigLIP2-384/webli",
        "timm/ViT-SO400M-16-SigLIP2-384",
        (("timm/ViT-SO400M-16-SigLIP2-384", "tokenizer.json"),),
        1152,
        "Apache-2.0",
        "best answers in many languages, slow without a GPU (4.5 GB)",
    ),
}

FORMER = {"fast": ("openclip:ViT-B-32/datacomp_xl_s13b_b90k",)}
"""What a preset meant in earlier versions: a library of that encoder goes on being one of that preset."""

ALIASES = {
    "builtin": DEFAULT_BUILTIN,
    **{name: name for name in BUILTINS},
    **{alias: preset.name for alias, preset in PRESETS.items()},
}


@dataclass(frozen=True, slots=True)
class Resolution:
    """A canonical name, and what the user should know about the choice."""

    name: str
    notice: str | None


def resolve(name: str, *, offline: bool) -> Resolution:
    """Turn what a user may write into a canonical name; only `auto` looks at the machine or the network.

    name: `auto`, `builtin`, a preset, `ARCH/PRETRAINED`, `hf-hub:ORG/NAME`, `local-dir:PATH`, `onnx-dir:PATH`,
    `hf-onnx:ORG/NAME`, or canonical.
    offline: make no connection. A connection is given up after three seconds.
    Raises EncoderUnavailableError for a name of none of these forms.
    """
    wanted = name.strip()
    if wanted.lower() == AUTO:
        return _resolve_auto(offline)
    if wanted.lower() in ALIASES:
        return Resolution(ALIASES[wanted.lower()], None)
    if wanted.startswith(ONNX_DIR) and wanted != ONNX_DIR:
        return Resolution(f"{ONNX_DIR}{_absolute(wanted.removeprefix(ONNX_DIR))}", None)
    if wanted.startswith(ONNX_HUB) and _REPOSITORY.fullmatch(wanted.removeprefix(ONNX_HUB)):
        return Resolution(wanted, None)
    inner = wanted.removeprefix(OPENCLIP)
    if inner.startswith(LOCAL) and inner != LOCAL:
        return Resolution(f"{OPENCLIP}{LOCAL}{_absolute(inner.removeprefix(LOCAL))}", None)
    if inner.startswith(HUB) and all(inner.removeprefix(HUB).partition("/")):
        return Resolution(f"{OPENCLIP}{inner}", None)
    architecture, _, tag = inner.rpartition("/")
    if architecture and tag and ":" not in inner:
        # open_clip takes both spellings of either part, and two names for one model would be two libraries.
        return Resolution(f"{OPENCLIP}{architecture.replace('/', '-')}/{tag.lower().replace('-', '_')}", None)
    raise unknown(name)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def folder_of(name: str) -> str | None:
    """Return the folder of a model that a canonical name says is in one; None for other names."""
    start = next((start for start in FROM_FOLDERS if name.startswith(start)), None)
    return None if start is None else name.removeprefix(start)


def meant(asked: str, name: str) -> bool:
    """Tell whether a preset meant an encoder of this canonical name in an earlier version."""
    return name in FORMER.get(asked.strip().lower(), ())


def _resolve_auto(offline: bool) -> Resolution:
    from clipsearch.encoders import hub

    preset = PRESETS["default"]
    if export_folder.find_exports(exports_root(), preset.name) or hub.is_cached(preset.repository, preset.needed):
        return Resolution(preset.name, None)
    if hub.is_offline(offline):
        reason = "its weights are not on this machine, and offline mode forbids fetching them"
    elif hub.offers(preset.repository):
        return Resolution(preset.name, None)
    else:
        reason = "its weights are not on this machine, and the model hub cannot be reached"
    from clipsearch.encoders.languages import preset_for_system  # here, as that module needs this one

    better = preset_for_system()
    what = "it is" if better == "default" else f"{better}, which reads the language of your system better, is"
    notice = (
        f"Using {DEFAULT_BUILTIN} instead of {preset.name}: {reason}. The answers will be of lower quality. "
        f"To switch once {what} available: {switch_command(better)}"
    )
    return Resolution(DEFAULT_BUILTIN, notice)


def unknown(name: str) -> EncoderUnavailableError:
    """Build the error for a name of no encoder."""
    import difflib  # here, because a query has no use for it

    close = difflib.get_close_matches(name.lower(), [*ALIASES, AUTO], n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]}?" if close else ""
    return EncoderUnavailableError(
        f"There is no encoder named {name!r}.{hint} Use auto, builtin, {', '.join(PRESETS)}, ARCH/PRETRAINED, "
        "hf-hub:ORG/NAME or local-dir:PATH; or onnx-dir:PATH or hf-onnx:ORG/NAME for a model that is ONNX already."
    )
