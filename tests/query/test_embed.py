"""Vectors and thumbnails for other programs: engine.embed and engine.thumbnail."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError, MediaError, PictureError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.libraries import index, photo, photos
from tests.support.pictures import encode, noise_picture, pixel_bomb, write_exif_jpeg

LONG = "\n\n".join(f"Paragraph {i} speaks of roses, of dogs in the snow and of the number {i}." for i in range(40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("embed")


@pytest.fixture(scope="module")
def engine(folder, encoder):
    photos(folder / "photos" / "sub", 3)
    photo(folder / "photos" / "large.jpg", 7, (1200, 900))
    write_exif_jpeg(folder / "photos" / "turned.jpg", 6, size=(300, 200), gps=(48.0, 2.0))
    (folder / "photos" / "note.txt").write_text("How to prune roses.")
    (folder / "photos" / "long.txt").write_text(LONG)
    index(folder / "lib", folder / "photos", encoder=encoder)
    settings = Settings(threads=1, offline=True)
    with SearchEngine(Library(folder / "lib"), settings, encoder=encoder) as opened:
        yield opened


def test_pictures_in_every_form_have_one_vector(engine, folder):
    path = folder / "photos" / "sub" / "p000.jpg"
    picture = Image.open(path)
    forms = [path, str(path), path.read_bytes(), picture, np.asarray(picture)]
    rows = engine.embed(images=forms)
    assert rows.shape == (5, engine.encoder.dim) and rows.dtype == np.float32
    assert np.allclose(rows @ rows[0], 1, atol=1e-3)
    assert engine.search(vector=rows[0], modality="image", k=1)[0].path == str(path)


def test_texts_are_embedded_as_queries_and_as_documents(engine):
    texts = ["a cat on a sofa", "roses"]
    assert np.allclose(engine.embed(texts=texts, kind="query"), engine.encoder.encode_queries(texts), atol=1e-5)
    assert np.allclose(engine.embed(texts=texts), engine.encoder.encode_texts(texts), atol=1e-5)


def test_a_long_document_is_the_mean_of_the_passages_that_index_would_make(engine, folder):
    row = engine.embed(texts=["first", LONG, "last"])[1]
    with engine.library.read() as snapshot:
        (item,) = [item for item in engine.find() if item.path.endswith("long.txt")]
        numbers = list(snapshot.rows_of_items("text", [item.id]))
        passages = snapshot.rows("text").gather(np.array(numbers)).astype(np.float32)
    assert len(passages) > 3
    mean = passages.sum(axis=0)
    assert row @ (mean / np.linalg.norm(mean)) > 0.999


def test_nothing_has_no_rows_and_a_generator_is_read_once(engine):
    assert engine.embed(texts=[]).shape == engine.embed(images=[]).shape == (0, engine.encoder.dim)
    many = engine.embed(texts=(f"number {i}" for i in range(engine.encoder.batch_size + 3)))
    assert many.shape[0] == engine.encoder.batch_size + 3
    assert np.allclose(np.linalg.norm(many, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one of texts and images"),
        ({"texts": ["a"], "images": []}, "one of texts and images"),
        ({"texts": "a cat"}, "lists"),
        ({"texts": ["a", " "]}, r"texts\[1\]"),
        ({"texts": ["a", 3]}, r"texts\[1\]"),
        ({"texts": ["a"], "kind": "answer"}, "query or document"),
        ({"images": [np.zeros((4, 4), np.uint8)]}, r"images\[0\].*\(height, width, 3\)"),
        ({"images": [np.zeros((4, 4, 3), np.float32)]}, "float32"),
        ({"images": [7]}, "not int"),
    ],
)
def test_what_cannot_be_embedded_is_an_error_of_ours(engine, given, said):
    with pytest.raises(InvalidInputError, match=said):
        engine.embed(**given)


def test_a_bad_picture_is_named_by_its_place(engine, folder):
    good = folder / "photos" / "large.jpg"
    with pytest.raises(PictureError, match=r"images\[1\].*empty"):
        engine.embed(images=[good, b""])
    with pytest.raises(PictureError, match=r"images\[2\].*no such file"):
        engine.embed(images=[good, good, folder / "gone.jpg"])
    with pytest.raises(PictureError, match="over the limit"):
        engine.embed(images=[pixel_bomb()])
    small = SearchEngine(engine.library, Settings(max_pixels=100, threads=1), encoder=engine.encoder)
    with pytest.raises(PictureError, match="max_pixels"):
        small.embed(images=[np.zeros((20, 20, 3), np.uint8)])


def opened(data: bytes) -> Image.Image:
    picture = Image.open(BytesIO(data))
    picture.load()
    assert picture.format == "JPEG" and picture.mode == "RGB"
    return picture


def test_a_thumbnail_is_small_upright_and_without_metadata(engine, folder):
    assert opened(engine.thumbnail(str(folder / "photos" / "large.jpg"))).size == (256, 192)
    assert opened(engine.thumbnail(str(folder / "photos" / "sub" / "p001.jpg"))).size == (64, 48)
    turned = opened(engine.thumbnail(str(folder / "photos" / "turned.jpg"), side=150))
    assert turned.size == (150, 100) and not turned.getexif()


@pytest.mark.parametrize("side", [15, 2049, 3.5, "256", None])
def test_the_side_of_a_thumbnail_is_bounded(engine, folder, side):
    with pytest.raises(InvalidInputError, match="16 to 2048"):
        engine.thumbnail(str(folder / "photos" / "large.jpg"), side=side)


def test_only_items_have_thumbnails(engine, folder):
    photo(folder / "private.jpg", 50)
    for key in (str(folder / "private.jpg"), "nobody", "", 17):
        with pytest.raises(InvalidInputError, match="No item has the key"):
            engine.thumbnail(key)
    with pytest.raises(MediaError, match="it is a text"):
        engine.thumbnail(str(folder / "photos" / "note.txt"))


@pytest.fixture
def swapped(tmp_path, encoder):
    """A library of two pictures, and a function that puts something else in the place of one."""
    path = photo(tmp_path / "photos" / "sub" / "a.jpg", 1)
    photo(tmp_path / "photos" / "b.jpg", 2)
    photo(tmp_path / "private" / "a.jpg", 3)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with SearchEngine(Library(tmp_path / "lib"), Settings(threads=1), encoder=encoder) as engine:
        yield engine, path, tmp_path / "private"


def test_a_file_that_became_a_link_gives_no_thumbnail(swapped):
    engine, path, private = swapped
    assert engine.thumbnail(str(path))
    path.unlink()
    path.symlink_to(private / "a.jpg")
    with pytest.raises(MediaError, match="link"):
        engine.thumbnail(str(path))


def test_a_folder_that_became_a_link_gives_no_thumbnail(swapped):
    engine, path, private = swapped
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(private)
    with pytest.raises(MediaError, match="link"):
        engine.thumbnail(str(path))


def test_what_is_no_picture_any_more_gives_no_thumbnail(swapped):
    engine, path, _ = swapped
    path.write_bytes(encode(noise_picture(1), "PNG")[:200])
    with pytest.raises(PictureError, match="truncated"):
        engine.thumbnail(str(path))
    path.unlink()
    with pytest.raises(MediaError, match="no such file"):
        engine.thumbnail(str(path))
    os.mkfifo(path)
    with pytest.raises(MediaError, match="not a regular file"):
        engine.thumbnail(str(path))


def test_a_path_in_the_catalog_that_leads_out_of_its_folder_gives_no_thumbnail(swapped):
    from sqlalchemy import update

    from clipsearch.store.database import transaction, writer_engine
    from clipsearch.store.picture_files import read_picture_of
    from clipsearch.store.schema import items

    engine, path, private = swapped
    (item,) = [item for item in engine.find() if item.path == str(path)]
    for stored in ("../private/a.jpg", str(private / "a.jpg"), "sub//../../private/a.jpg", "sub/./a.jpg"):
        writer = writer_engine(engine.library.folder / "catalog.db")
        with writer.connect() as connection, transaction(connection):
            connection.execute(update(items).where(items.c.id == item.id).values(path=stored))
        writer.dispose()
        with pytest.raises(MediaError):
            read_picture_of(engine.library, item.id, 1 << 30)


def test_a_thumbnail_of_a_single_file_that_is_a_root(tmp_path, encoder):
    path = photo(tmp_path / "one.jpg", 1)
    index(tmp_path / "lib", path, encoder=encoder)
    with SearchEngine(Library(tmp_path / "lib"), Settings(threads=1), encoder=encoder) as engine:
        assert opened(engine.thumbnail(str(path))).size == (64, 48)
        Path(path).unlink()
        path.symlink_to(photo(tmp_path / "other.jpg", 2))
        with pytest.raises(MediaError, match="link"):
            engine.thumbnail(str(path))


def test_a_thumbnail_of_a_record_is_what_was_kept_of_it(tmp_path, encoder):
    path = photo(tmp_path / "a.jpg", 4, (400, 300))
    data = encode(noise_picture(5, (640, 480)))
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small") as engine:
        engine.add([clipsearch.Record("small", image=data), clipsearch.Record("file", image=path)])
        engine.add([clipsearch.Record("kept", image=data)], keep="bytes")
        engine.add([clipsearch.Record("shrunk", image=noise_picture(6, (900, 600)))], keep="thumbnail")
        engine.add([clipsearch.Record("note", text="words"), clipsearch.Record("vector", vector=[1.0] * encoder.dim)])
        assert opened(engine.thumbnail("kept", side=320)).size == (320, 240)
        assert opened(engine.thumbnail("shrunk", side=90)).size == (90, 60)
        assert opened(engine.thumbnail("file", side=100)).size == (100, 75)
        for name, said in (("small", "only its vector"), ("note", "it is a text"), ("vector", "only its vector")):
            with pytest.raises(MediaError, match=said):
                engine.thumbnail(name)
        path.unlink()
        path.symlink_to(photo(tmp_path / "b.jpg", 1))
        with pytest.raises(MediaError, match="link"):
            engine.thumbnail("file")


def test_what_is_kept_of_a_picture_is_hostile_too(tmp_path, encoder):
    from sqlalchemy import update

    from clipsearch.store.database import transaction, writer_engine
    from clipsearch.store.schema import record_pictures

    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small") as engine:
        engine.add([clipsearch.Record("kept", image=encode(noise_picture(5)))], keep="bytes")
        for stored in (pixel_bomb(), b"no picture", b""):
            writer = writer_engine(engine.library.folder / "catalog.db")
            with writer.connect() as connection, transaction(connection):
                connection.execute(update(record_pictures).values(picture=stored))
            writer.dispose()
            with pytest.raises(PictureError):
                engine.thumbnail("kept")
