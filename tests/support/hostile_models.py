"""Models that try to run Python while they are loaded; each leaves a marker file where it succeeds."""

import json
from pathlib import Path

from tests.support import tiny_openclip

EVIL = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

class Evil(PreTrainedTokenizerFast):
    pass

class EvilConfig(RobertaConfig):
    model_type = "evil"

class EvilModel(RobertaModel):
    config_class = EvilConfig
"""


def edit(path: Path, change) -> None:
    """Change a JSON file."""
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def plant(folder: Path, marker: Path) -> None:
    """Put the module into a folder."""
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))


def with_tokenizer_code(folder: Path, marker: Path, *, say: bool = True) -> Path:
    """A model whose tokenizer is a class of its own. say: open_clip's config trusts it, else nobody is asked."""
    tiny_openclip.siglip_like(folder)
    plant(folder, marker)

    def point(fields):
        fields["tokenizer_class"] = "Evil"
        fields["auto_map"] = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}

    def trust(fields):
        fields["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["trust_remote_code"] = True

    edit(folder / "tokenizer_config.json", point)
    if say:
        edit(folder / "open_clip_config.json", trust)
    return folder


def with_text_tower_code(folder: Path, marker: Path, elsewhere: Path | None = None) -> Path:
    """A model whose text tower is a class of its own. elsewhere: the folder that has it, if not the model's."""
    tiny_openclip.roberta_clip(folder)
    home = elsewhere or folder
    home.mkdir(exist_ok=True)
    fields = json.loads((folder / "config.json").read_text())
    fields |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel"}}
    (home / "config.json").write_text(json.dumps(fields))
    plant(home, marker)
    if elsewhere:
        (folder / "config.json").unlink()
        edit(folder / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(hf_model_name=str(home)))
    return folder


class Bomb:
    """Leaves the marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


def with_pickled_weights(folder: Path, marker: Path, name: str = "open_clip_pytorch_model.bin") -> Path:
    """A model whose weights are a pickle that holds more than tensors."""
    import torch
    from safetensors.torch import load_file

    tiny_openclip.classic_clip(folder)
    weights = load_file(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({**weights, "bomb": Bomb(marker)}, folder / name)
    return folder


def with_script_weights(folder: Path, name: str = "open_clip_pytorch_model.bin") -> Path:
    """A model whose weights are a TorchScript archive, which is a program."""
    import torch

    tiny_openclip.classic_clip(folder)
    (folder / "open_clip_model.safetensors").unlink()

    class Program(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values

    torch.jit.save(torch.jit.trace(Program(), torch.zeros(1)), str(folder / name))
    return folder
