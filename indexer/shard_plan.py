"""The plan of a folder of shards: which source it is of, its shards, and the encoder; every worker writes the same."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from clipsearch.config import Settings
from clipsearch.durable import replace_file
from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.store.folder import open_folder
from clipsearch.types import EncoderPin
from indexer.checked_files import MAX_MANIFEST, read_pin
from indexer.embed_shard import EmbedTask
from indexer.shard_files import FORMAT
from indexer.sources.base import Shard
from indexer.sources.registry import SourceOptions

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What is embedded into a folder. parts: among how many workers."""

    source: str
    encoder: EncoderPin
    shards: Sequence[Shard]
    options: SourceOptions = field(default_factory=SourceOptions)
    parts: int = 1

    def task(self, shard: Shard, settings: Settings) -> EmbedTask:
        """Return the task that makes a shard."""
        return EmbedTask(self.source, shard, self.encoder, self.options, settings)

    def part(self, number: int) -> Sequence[Shard]:
        """Return the shards of one worker; number: from 1."""
        return self.shards[number - 1 :: self.parts]

    def part_of(self, index: int) -> int:
        """Return which worker has the shard at a place in `shards`."""
        return index % self.parts + 1

    def is_whole(self, name: str) -> bool:
        """Tell whether a file is one shard of it, and so stays one."""
        return any(shard.name == name == shard.file for shard in self.shards)

    def agrees(self, other: ShardPlan) -> bool:
        """Tell whether both can share a folder: only the shards and the number of workers may differ."""
        return replace(self, shards=(), parts=1) == replace(other, shards=(), parts=1)


def read_plan(directory: Path) -> ShardPlan | None:
    """Return the plan of a folder of shards; None if it has none. Raises InvalidInputError for anything else."""
    path = directory / PLAN
    try:
        with open_folder(directory) as folder:
            if folder.status(PLAN) is None:
                return None
            with open(folder.open(PLAN, os.O_RDONLY), "rb") as file:
                data = file.read(MAX_MANIFEST + 1)
        if len(data) > MAX_MANIFEST:
            raise ValueError(f"it has more than {MAX_MANIFEST:,} bytes")
        return _parse(json.loads(data))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except LibraryError as error:
        raise InvalidInputError(
            f"{path} is not a regular file. Name a folder that `clipsearch embed --shard` wrote."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInputError(
            f"{path} is not a plan that clipsearch wrote: {error}. Name a folder that `clipsearch embed --shard` wrote."
        ) from error


def write_plan(directory: Path, plan: ShardPlan) -> None:
    """Write the plan of a folder, which is made if it is missing. Raises InvalidInputError, OSError."""
    try:
        read_pin(asdict(plan.encoder))
    except ValueError as error:
        raise InvalidInputError(f"No shards can be made: {error}. Rename the folder of the model.") from error
    directory.mkdir(parents=True, exist_ok=True)
    said = {"format": FORMAT, **asdict(plan)}
    replace_file(directory / PLAN, json.dumps(said, indent=1).encode() + b"\n")


def _parse(said: Mapping[str, Any]) -> ShardPlan:
    values = dict(said)
    if values.pop("format") != FORMAT:
        raise ValueError("another version of clipsearch wrote it")
    shards = tuple(Shard(**each) for each in values.pop("shards"))
    encoder, options = read_pin(values.pop("encoder")), SourceOptions.of_json(values.pop("options"))
    plan = ShardPlan(encoder=encoder, shards=shards, options=options, **values)
    texts = [plan.source]
    texts += [text for shard in shards for text in (shard.name, shard.fingerprint)]
    counts = [plan.parts, *(each for shard in shards for each in (shard.first, shard.stop or 0))]
    if not all(isinstance(each, str) for each in texts) or not all(type(each) is int and each >= 0 for each in counts):
        raise ValueError("a value is of another type")
    if plan.parts < 1:
        raise ValueError("a value is out of range")
    _check_options(options)
    return plan


def _check_options(options: SourceOptions) -> None:
    """Raise ValueError where an option has a value of another type than its default."""
    for each in fields(options):
        value = getattr(options, each.name)
        if not isinstance(value, str | int | float | bool | None | list | tuple | dict):
            raise ValueError(f"the option {each.name} is of another type")
