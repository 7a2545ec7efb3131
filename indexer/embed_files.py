"""Files to outcomes without a library, and such outcomes to batches that a library shares its content with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.store.records import Captions, Encoded, FileRecord, Known, Outcome
from clipsearch.types import EncoderPin
from indexer.decode import Decoder, batches, load_all
from indexer.encode import EncodedBatch, EncodeStage
from indexer.isolation import make_reader

FILES = 128
"""Files of a task."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """Files that one worker encodes together. roots: id -> absolute path, the same on every machine."""

    records: Sequence[FileRecord]
    roots: Mapping[int, str]
    encoder: EncoderPin
    settings: Settings


def embed_files(task: FileTask, encoder: Encoder) -> list[Outcome]:
    """Read, decode and encode files; return what came of each that is there.

    A file with the content of one before it is `Known`. Raises EncoderError for an encoder that fails for all.
    """
    reader = make_reader(task.settings)
    try:
        decoder = Decoder(encoder, task.settings, task.roots, reader=reader)
        size = task.settings.batch_size or encoder.batch_size
        stage = EncodeStage(encoder, lambda hashes: ())
        with (
            closing(load_all(task.records, decoder, task.settings.cores, size)) as loaded,
            closing(stage.run(batches(loaded, size))) as encoded,
        ):
            return [outcome for batch in encoded for outcome in batch.outcomes]
    finally:
        reader.close()


class SharedContent:
    """Makes batches of outcomes: content that the library has, or a batch before, is not stored again."""

    def __init__(
        self, find_known: Callable[[Collection[str]], Collection[str]], has_caption: Callable[[str, str], bool]
    ) -> None:
        """Prepare; the arguments are as of `Decoder`."""
        self._find_known = find_known
        self._has_caption = has_caption
        self._under_way: set[str] = set()

    def batch(self, files: int, outcomes: Iterable[Outcome]) -> EncodedBatch:
        """Return the batch of outcomes of so many files."""
        made = list(outcomes)
        known = {*self._find_known({each.content_hash for each in made if isinstance(each, Encoded)})}
        known |= self._under_way
        fresh: set[str] = set()
        for place, each in enumerate(made):
            if isinstance(each, Encoded) and each.content_hash in known:
                made[place] = Known(each.record, each.content_hash, self._captions(each.content_hash, each.captions))
            elif isinstance(each, Encoded):
                fresh.add(each.content_hash)
        self._under_way |= fresh
        return EncodedBatch(files, made, frozenset(fresh))

    def release(self, batch: EncodedBatch) -> None:
        """Forget the content of a committed batch, which the library has now."""
        self._under_way -= batch.hashes

    def _captions(self, content_hash: str, captions: Captions | None) -> Captions | None:
        if captions is None or not captions.text or not self._has_caption(content_hash, captions.text):
            return captions
        return replace(captions, passages=(), vectors=None)
