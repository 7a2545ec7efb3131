"""Folders of models that are ONNX already, exported here from small open_clip models as Immich exports its own."""

import json
from pathlib import Path
from typing import Any


def export_folder(source: Path, folder: Path, *, dynamic: bool = False, ids: str = "int32") -> Any:
    """Export a saved model into `visual/` and `textual/`; return the reference that open_clip loads.

    dynamic: with a free number of rows; Immich's take one. ids: the type of the input of texts.
    """
    import torch

    from clipsearch.encoders import openclip

    reference = openclip.fetch(f"local-dir:{source}", offline=True)
    config = json.loads((source / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    for side in ("visual", "textual"):
        (folder / side).mkdir(parents=True)
    save_json(folder / "config.json", config)
    save_json(folder / "visual" / "preprocess_cfg.json", dict(reference.model.visual.preprocess_cfg))
    save_tokenizer(reference.tokenizer, source, folder / "textual")
    picture, length = reference.picture, reference.context_length
    pixels = torch.randn(1, 3, picture.height, picture.width)
    model = reference.model  # whose rows are not normalised, as no reader should count on it
    write(tower(model.encode_image, model), {"image": pixels}, folder / "visual" / "model.onnx", dynamic=dynamic)
    text = torch.ones(1, length, dtype=getattr(torch, ids))
    write(tower(model.encode_text, model), {"text": text}, folder / "textual" / "model.onnx", dynamic=dynamic)
    return reference


def save_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def save_tokenizer(tokenizer: Any, source: Path, folder: Path) -> None:
    """Save the fast tokenizer; that of CLIP as transformers saves it, which pads with the end of the text."""
    if type(tokenizer).__name__ == "HFTokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((source / name).read_bytes())
        return
    from transformers import CLIPTokenizer

    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    start, end = "<|startoftext|>", "<|endoftext|>"
    names = {"<start_of_text>": start, "<end_of_text>": end}
    vocabulary = {names.get(word, word): number for word, number in tokenizer.encoder.items()}
    CLIPTokenizer(
        vocab=vocabulary, merges=merges, bos_token=start, eos_token=end, unk_token=end, pad_token=end
    ).save_pretrained(folder)


def write(tower: Any, given: dict[str, Any], path: Path, *, dynamic: bool = False) -> None:
    """Export a module as Immich's exporter does, with the exporter of TorchScript. given: its inputs."""
    import torch

    from clipsearch.encoders.openclip import quiet

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its operators have no counterpart in ONNX
    names, examples = list(given), tuple(given.values())
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                tower.eval(),
                examples,
                str(path),
                input_names=names,
                output_names=["embedding"],
                opset_version=17,
                dynamic_axes={name: {0: "batch_size"} for name in names} if dynamic else None,
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def tower(run: Any, *held: Any) -> Any:
    """Make a module of a function; held: the modules whose weights it uses."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = torch.nn.ModuleList(held)

        def forward(self, *values: Any) -> Any:
            return run(*values)

    return Tower()
