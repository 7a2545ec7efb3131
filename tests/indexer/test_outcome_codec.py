"""What travels to the machines of a cluster and back stays what it is."""

from datetime import datetime

import numpy as np
import pytest

from clipsearch.errors import InvalidInputError
from clipsearch.store.records import LIVE_PHOTO, CaptionSource, Encoded, Failed, FileIdentity, FileRecord
from clipsearch.types import Media, MediaInfo, Modality, PartPosition, Passage, PictureInfo
from indexer.outcome_codec import pack, unpack

FILM = FileRecord(1, "a.mp4", 10, 20, CaptionSource(stills=("a.jpg",)), FileIdentity(3, 4))


def test_films_and_documents_come_back_as_they_were():
    picture = PictureInfo(64, 48, datetime(2024, 1, 2, 3, 4, 5), "Apple", 1.5, 2.5, "a note")
    media = MediaInfo(Media.FILM, duration=2.5)
    sent = [
        Encoded(FILM, "h", Modality.IMAGE, np.ones((2, 4), np.float16), picture, media=media,
                positions=(PartPosition(time=0.0), PartPosition(time=1.5))),
        Encoded(FileRecord(1, "b.pdf", 1, 1), "i", Modality.IMAGE, np.ones((1, 4), np.float16),
                passages=(Passage("words", 1, 1, PartPosition(page=1)),), media=MediaInfo(Media.DOCUMENT, pages=1),
                positions=(PartPosition(page=1),), passage_vectors=np.zeros((1, 4), np.float16)),
        Failed(FILM, LIVE_PHOTO + "a.jpg"),
    ]  # fmt: skip
    came = unpack(*pack(sent))
    assert [repr(each) for each in came] == [repr(each) for each in sent]
    assert came[0].media.media is Media.FILM and came[2].is_live_photo and came[0].record.identity == FILM.identity


@pytest.mark.parametrize("said", [b"[{}]", b'[{"class": "object"}]', b"[", b'[{"kind": "nothing"}]'])
def test_anything_else_is_refused(said):
    with pytest.raises(InvalidInputError, match="from the cluster"):
        unpack(said, b"")
