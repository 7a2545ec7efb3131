"""The engine over real libraries: pictures and texts through the builtin encoder, and many rows given as vectors."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.errors import InvalidInputError, LibraryNotFoundError, PictureError
from clipsearch.query.blocks import MAX_QUERIES
from clipsearch.query.candidates import QueryBatch
from clipsearch.query.engine import SearchEngine
from clipsearch.query.parser import parse
from clipsearch.query.retrieval import retrieve
from clipsearch.query.terms import Indexed
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, Encoded, FileRecord, RecordBlock
from clipsearch.types import Modality, Passage
from indexer import build
from tests.support.libraries import index, names
from tests.support.pictures import photograph
from tests.support.vectors import DIM, VectorLibrary, unit

PHOTOS = ["astronaut.png", "chelsea.png", "coffee.png", "coins.png", "rocket.jpg", "motorcycle_left.png", "moon.png"]
NOTES = "Prune the roses in late winter.\n\n" + "\n\n".join(f"Line {n}: the tractor needs oil." for n in range(60))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        shutil.copy(photograph(name), folder / name)
    shutil.copy(folder / "chelsea.png", folder / "copy of chelsea.png")
    (folder / "notes.md").write_text(NOTES)
    return folder


@pytest.fixture(scope="module")
def engine(photos, encoder, tmp_path_factory):
    library = tmp_path_factory.mktemp("library")
    index(library, photos, encoder=encoder)
    return SearchEngine(Library(library), encoder=encoder)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a cat", "chelsea.png"),
        ("a cup of coffee", "coffee.png"),
        ("a rocket", "rocket.jpg"),
        ("a motorcycle", "motorcycle_left.png"),
    ],
)
def test_words_find_the_picture(engine, query, expected):
    assert names(engine.search(query, modality="image", k=3))[0] == expected


def test_a_picture_finds_itself_and_its_copy_in_a_stable_order(engine, photos):
    results = engine.search(image=photos / "chelsea.png", k=3)
    assert names(results)[:2] == ["chelsea.png", "copy of chelsea.png"]
    assert results[0].score >= 0.999 and results[1].score == results[0].score
    assert [hit.rank for hit in results] == [1, 2, 3]


def test_exclude_self_leaves_out_the_file_but_not_its_copy(engine, photos):
    results = engine.search(image=photos / "chelsea.png", k=3, exclude_self=True)
    assert names(results)[0] == "copy of chelsea.png" and "chelsea.png" not in names(results)
    assert len(results) == 3


def test_a_pillow_picture_is_as_good_as_its_file(engine, photos):
    by_file = engine.search(image=photos / "coffee.png", k=1)[0]
    with Image.open(photos / "coffee.png") as picture:
        by_object = engine.search(image=picture, k=1)[0]
    assert by_object.path == by_file.path and by_object.score == pytest.approx(by_file.score, abs=0.02)


def test_each_passage_is_findable_with_its_lines(engine):
    best = engine.search("how to prune roses", modality="text", k=1)[0]
    assert best.modality is Modality.TEXT and best.part == 0
    assert best.passage is not None and best.passage.line == 1 and "roses" in best.passage.text


def test_any_merges_both_modalities(engine):
    found = {hit.modality for hit in engine.search("pruning roses", k=50)}
    assert found == {Modality.IMAGE, Modality.TEXT}


def test_k_larger_than_the_library_returns_all_once(engine):
    hits = engine.search("a cat", modality="image", k=1000)
    assert sorted(names(hits)) == sorted([*PHOTOS, "copy of chelsea.png"])


def test_scores_fall_and_are_cosines(engine):
    scores = [hit.score for hit in engine.search("a cat", modality="image", k=100)]
    assert scores == sorted(scores, reverse=True) and all(-1 <= score <= 1 for score in scores)


def test_a_library_too_small_to_tell_says_so(engine):
    results = engine.search("a cat", modality="image")
    assert results[0].confidence is None and results.confident


def test_a_batch_answers_as_its_queries_alone(engine):
    texts = ["a cat", "a rocket", "coins"] * (MAX_QUERIES // 2)
    batch = engine.search_batch(texts=texts, k=4)
    assert len(batch) == len(texts)
    for text, results in zip(texts[:3], batch, strict=False):
        alone = engine.search(text, k=4)
        assert names(results) == names(alone) and results.query == text
        assert [h.score for h in results] == pytest.approx([h.score for h in alone], abs=2e-3)


def test_a_batch_of_nothing_is_nothing(engine):
    assert engine.search_batch(texts=[]) == []


def test_threads_share_one_engine(engine, photos):
    def ask(number):
        if number % 3 == 0:
            return names(engine.search(image=photos / "rocket.jpg", k=3))
        return names(engine.search("a rocket", modality="image", k=3))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(48)))
    assert all(answer == answers[i % 3] for i, answer in enumerate(answers))


def test_a_long_query_is_cut_with_a_warning(engine):
    results = engine.search(" ".join(["cat"] * 2000))
    limit = engine.encoder.max_tokens
    assert any(f"reads only the first {limit}. Shorten" in warning for warning in results.warnings)
    assert engine.search("a cat").warnings == ()


@pytest.mark.parametrize("text", ["🐈🛋️", "猫在沙发上", "a\0b", "‮", "x" * 5000])
def test_odd_queries_get_an_answer(engine, text):
    assert len(engine.search(text, k=3)) == 3


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_queries_are_refused(engine, text):
    with pytest.raises(InvalidInputError, match="empty"):
        engine.search(text)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"text": "a", "image": "b"}, {"text": "a", "k": 0}, {"text": "a", "modality": "sound"}, {"vector": [1.0]}],
)
def test_wrong_arguments_are_refused(engine, arguments):
    with pytest.raises(InvalidInputError):
        engine.search(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"text": 5}, {"image": 5}, {"image": np.zeros((4, 4, 3))}, {"image": ""}, {"text": "a", "k": "3"},
        {"text": "a", "k": 2.5}, {"vector": "abc"}, {"vector": [[1.0], [1.0, 2.0]]},
    ],
)  # fmt: skip
def test_arguments_of_a_wrong_type_are_our_error(engine, arguments):
    with pytest.raises(InvalidInputError):
        engine.search(**arguments)


@pytest.mark.parametrize("arguments", [{}, {"texts": "cat"}, {"texts": ["a"], "images": ["b"]}, {"images": "a.jpg"}])
def test_a_batch_is_one_list_of_queries(engine, arguments):
    with pytest.raises(InvalidInputError):
        engine.search_batch(**arguments)


def test_a_vector_of_any_length_has_a_direction(engine):
    direction = np.ones(engine.encoder.dim)
    scores = [[hit.score for hit in engine.search(vector=direction * f)] for f in (1e-30, 1, 1e30)]
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_vectors_without_a_direction_are_refused(engine, value):
    with pytest.raises(InvalidInputError, match="zero or holds NaN"):
        engine.search(vector=[value] * engine.encoder.dim)


def test_pictures_that_are_none_are_refused(engine, photos, tmp_path):
    for path in (tmp_path / "missing.jpg", tmp_path, photos / "notes.md"):
        with pytest.raises(PictureError, match=str(path)):
            engine.search(image=path)


def test_a_library_that_is_not_there_or_empty(tmp_path, encoder):
    with pytest.raises(LibraryNotFoundError, match="no library"):
        clipsearch.open(tmp_path / "nothing")
    (tmp_path / "photos").mkdir()
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    with pytest.raises(LibraryNotFoundError, match="empty"):
        SearchEngine(Library(tmp_path / "library"), encoder=encoder).search("a cat")


@pytest.fixture
def rows(tmp_path):
    library = VectorLibrary(tmp_path)
    library.add(unit(1200, 0))
    return library


def test_exact_search_is_exact(rows):
    for query in unit(10, 1):
        assert rows.found(query, 10)[0] == rows.expected(query, 10)


def test_ivfpq_answers_with_exact_scores_and_finds_each_row(rows):
    assert rows.build("ivfpq") == {Modality.IMAGE: "ivfpq"}
    hits = 0
    for name in list(rows.vectors)[::40]:
        found, results = rows.found(rows.vectors[name], 5)
        assert found[0] == name and results[0].score >= 0.999
        stored = [rows.vectors[n].astype(np.float16).astype(np.float32) for n in found]
        exact = [float(s @ rows.vectors[name] / np.linalg.norm(s)) for s in stored]
        assert [hit.score for hit in results] == pytest.approx(exact, abs=1e-5)
        hits += len(set(found) & set(rows.expected(rows.vectors[name], 5)))
    assert hits >= 0.95 * 5 * 30


def test_rows_after_the_watermark_are_found_at_once(rows):
    rows.build("ivfpq")
    rows.add(unit(20, 5))
    for name in list(rows.vectors)[-20:]:
        assert rows.found(rows.vectors[name], 1)[0] == [name]


@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
def test_deleted_rows_are_never_returned_and_k_is_filled(rows, kind):
    rows.build(kind)
    query = rows.vectors["000007"]
    gone = rows.found(query, 100)[0]
    rows.remove(gone)
    found, _ = rows.found(query, 50)
    assert len(found) == 50 and not set(found) & set(gone)
    if kind == "flat":
        assert found == rows.expected(query, 50)


def test_k_is_filled_whatever_lists_are_probed(rows):
    rows.build("ivfpq")
    query = unit(1, 7)[0]
    for k in (119, 500, 1200, 5000):
        assert len(rows.found(query, k)[0]) == min(k, 1200)
    assert rows.found(query, 1200)[0] == rows.expected(query, 1200)


@pytest.mark.slow
def test_k_is_filled_where_nearly_all_is_deleted(rows):
    rows.build("ivfpq")
    rows.remove([name for i, name in enumerate(list(rows.vectors)) if i % 40])
    for query in unit(5, 8):
        assert rows.found(query, 10)[0] == rows.expected(query, 10)


def test_an_answer_begins_as_a_longer_one_whatever_the_parts_of_items(tmp_path):
    """Many passages near the query are of few texts: others must not lose their places to pictures for that."""
    rows = VectorLibrary(tmp_path)
    rows.add(unit(60, 0))
    rng, query = np.random.default_rng(1), np.eye(DIM, dtype=np.float32)[0]
    batch = []
    for i in range(30):
        near = rng.standard_normal((7 if i else 300, DIM)) * 0.1 + (1.0 - i / 60) * query
        near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
        passages = tuple(Passage(f"passage {j}", j + 1, j + 1) for j in range(len(near)))
        record = FileRecord(rows.root, f"t{i}", 1, 1)
        batch.append(Encoded(record, f"f{i:039x}", Modality.TEXT, near, passages=passages))
    with rows.library.writer() as writer:
        writer.commit(batch)
    for wanted in ({"vector": query}, {"text": Indexed(1) + Indexed(2)}, {"text": Indexed(60 + 3)}):
        whole = [(hit.item.id, hit.part) for hit in rows.engine.search(**wanted, k=90)]
        assert len({item for item, _ in whole}) == len(whole) >= 88
        for k in (1, 4, 10, 25):
            assert [(hit.item.id, hit.part) for hit in rows.engine.search(**wanted, k=k)] == whole[:k]
    others = np.vstack([unit(3, 2), query[None]])
    assert rows.engine.search(vector=others, k=10)[3].hits == rows.engine.search(vector=query, k=10).hits


@pytest.mark.slow
def test_a_build_beside_a_reader_is_no_damage(rows):
    rows.build("ivfpq")
    query = rows.vectors["000003"]
    retriever = rows.engine._retriever
    with rows.library.read() as before:
        before.generation(Modality.IMAGE)
        rows.build("ivfpq")
        answer = retrieve(retriever, QueryBatch(before, query[None]), 3, [Modality.IMAGE])[0]
    assert answer.warnings == () and answer.hits[0].path.endswith("000003")


@pytest.mark.slow
def test_a_build_replaces_the_one_before_and_flat_removes_it(rows, tmp_path):
    rows.build("ivfpq")
    first = list((tmp_path / "ann").iterdir())
    rows.build("ivfpq")
    second = list((tmp_path / "ann").iterdir())
    assert len(first) == len(second) == 1 and first != second
    rows.build("flat")
    assert list((tmp_path / "ann").iterdir()) == []
    assert rows.found(rows.vectors["000003"], 1)[0] == ["000003"]


def test_too_few_rows_for_ivfpq_are_searched_exactly(tmp_path):
    small = VectorLibrary(tmp_path)
    assert small.build("ivfpq") == {}
    small.add(unit(40, 0))
    assert small.build("ivfpq") == {Modality.IMAGE: "flat"}
    assert small.found(small.vectors["000005"], 1)[0] == ["000005"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "delete all"])
def test_a_damaged_index_is_not_used_and_is_built_anew(rows, tmp_path, damage):
    rows.build("ivfpq")
    folder = next((tmp_path / "ann").iterdir())
    for path in [folder / "index.faiss"] if damage != "delete all" else list(folder.iterdir()):
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 1
        path.unlink()
        if not damage.startswith("delete"):
            path.write_bytes(data if damage == "flip" else data[:100])
    query = rows.vectors["000011"]
    fresh = SearchEngine(Library(tmp_path))
    results = fresh.search(vector=query, k=10)
    assert [Path(hit.path).name for hit in results] == rows.expected(query, 10)
    assert len(results.warnings) == 1 and "clipsearch build" in results.warnings[0]
    with rows.library.writer() as writer:
        build.refresh(rows.library, writer)
    again = SearchEngine(Library(tmp_path)).search(vector=query, k=1)
    assert again.warnings == () and Path(again[0].path).name == "000011"


@pytest.mark.slow
def test_a_stale_index_is_built_anew_by_the_next_run(rows):
    rows.build("ivfpq")
    rows.add(unit(800, 6))
    with rows.library.writer() as writer:
        build.refresh(rows.library, writer)
    with rows.library.read() as snapshot:
        generation = snapshot.generation(Modality.IMAGE)
        assert generation is not None and generation.watermark == 2000


def test_what_is_there_is_sure_and_what_is_not_is_not(tmp_path):
    library = VectorLibrary(tmp_path)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((500, DIM)).astype(np.float32)
    library.add(x / np.linalg.norm(x, axis=1, keepdims=True))
    there = library.engine.search(vector=library.vectors["000042"] + 0.05 * rng.standard_normal(DIM))
    assert there.confident and there[0].confidence > 0.99
    absent = [library.engine.search(vector=rng.standard_normal(DIM)) for _ in range(200)]
    assert 0.15 < np.mean([results.confident for results in absent]) < 0.35, "a quarter is confident at 0.75, by chance"


def test_modalities_are_merged_by_what_stands_out_not_by_raw_cosine(tmp_path):
    """Texts score higher than pictures here, as they do with CLIP; yet the picture that matches wins."""
    rng = np.random.default_rng(3)
    library = VectorLibrary(tmp_path)
    query = np.zeros(DIM, np.float32)
    query[0] = 1
    for modality, level in ((Modality.IMAGE, 0.2), (Modality.TEXT, 0.6)):
        x = 0.03 * rng.standard_normal((200, DIM)).astype(np.float32)
        x[:, 0] = level + 0.02 * rng.standard_normal(200)
        x[:, 1] = np.sqrt(1 - x[:, 0] ** 2)
        if modality is Modality.IMAGE:
            x[17, 0] = 0.5
        library.add(x / np.linalg.norm(x, axis=1, keepdims=True), modality)
    best = library.engine.search(vector=query, k=1)[0]
    assert best.modality is Modality.IMAGE and best.path.endswith("000017")


def near(query, count, seed, noise):
    """Rows around a query."""
    rows = query + noise * unit(count, seed)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def long_text(tmp_path):
    """Four hundred notes, and a text of 300 passages that are all nearer to the query than any of them."""
    library = VectorLibrary(tmp_path)
    library.add(unit(400, 0), Modality.TEXT)
    query = unit(1, 1)[0]
    passages = tuple(Passage(f"line {i}", i, i) for i in range(1, 301))
    record, rows = FileRecord(library.root, "long", 1, 1), near(query, 300, 2, 0.3)
    with library.library.writer() as writer:
        writer.commit([Encoded(record, "f" * 40, Modality.TEXT, rows, passages=passages)])
    return library, query, rows


def test_a_text_of_many_passages_is_one_hit_by_the_best_of_them_and_k_is_filled(long_text):
    library, query, rows = long_text
    names, results = library.found(query, 12)
    assert names == ["long", *library.expected(query, 11)]
    best = int(np.argmax(rows.astype(np.float16).astype(np.float32) @ query))
    assert results[0].part == best and results[0].passage.text == f"line {best + 1}"
    assert len({hit.item.id for hit in library.engine.search(vector=query, k=500)}) == 401


def test_an_item_is_one_hit_of_a_composed_query_too(long_text):
    library, _, _ = long_text
    like = library.engine.search(vector=near(long_text[1], 1, 3, 0.1)[0], k=5)[1].item.id
    found = library.engine.search(parse(f"id:{like} + 0.001:id:{like}"), k=400)
    assert len(found) == 400 == len({hit.item.id for hit in found})


def test_a_record_with_a_picture_and_a_caption_is_one_hit_by_the_better_of_them(tmp_path):
    library = VectorLibrary(tmp_path)
    rows = unit(200, 4)
    pictures, captions = rows[:100], rows[100:]
    block = {m: each.astype(np.float16) for m, each in ((Modality.IMAGE, pictures), (Modality.TEXT, captions))}
    with library.library.writer() as writer:
        root = writer.add_collection("", str(tmp_path / "source"))
        writer.commit_records(root, RecordBlock([CollectionRecord(f"r{i}", f"caption {i}") for i in range(100)], block))
    for wanted, query in ((Modality.IMAGE, pictures[7]), (Modality.TEXT, captions[7])):
        found = library.engine.search(vector=query, k=100)
        assert found[0].path.endswith("r7") and found[0].modality is wanted
        assert sorted(hit.item.id for hit in found) == sorted({hit.item.id for hit in found}) and len(found) == 100


def test_a_picture_that_stands_out_among_few_is_first_before_many_texts_that_do_not(tmp_path):
    library = VectorLibrary(tmp_path)
    rows = np.random.default_rng(0).standard_normal((20_101, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    query, pictures, texts = rows[0], rows[1:101], rows[101:]
    aside = pictures[7] - (pictures[7] @ query) * query
    score = 3.6 / DIM**0.5  # in deviations of a random vector: one of 100 hardly, one of 20,000 easily
    pictures[7] = score * query + (1 - score**2) ** 0.5 * aside / np.linalg.norm(aside)
    library.add(pictures)
    library.add(texts[texts @ query < texts @ pictures[7]], Modality.TEXT)
    (first,) = library.engine.search(vector=query, k=1)
    assert Path(first.path).name == "000007" and first.stands_out
    kept = library.engine.search(vector=query, k=10, cut=True)
    assert Path(kept[0].path).name == "000007" and all(hit.log_evalue > 0 for hit in kept)
