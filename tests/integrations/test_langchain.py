"""The adapters of LangChain: its standard suites, and what a library adds to them."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import DocumentIndex, InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.integration_tests.indexer import AsyncDocumentIndexTestSuite, DocumentIndexerTestSuite
from langchain_tests.unit_tests import EmbeddingsUnitTests

import clipsearch
from clipsearch import EncoderMismatchError, Filter, InvalidInputError, SearchEngine
from clipsearch.integrations.langchain import (
    ClipSearchDocumentIndex,
    ClipSearchEmbeddings,
    ClipSearchRetriever,
    ClipSearchVectorStore,
    DocumentsFailedError,
)
from tests.support.pages import python_blocks
from tests.support.paths import ROOT
from tests.support.pictures import noise_picture

FAKE = DeterministicFakeEmbedding(size=6)
BUILTIN = "builtin-small"
TEXTS = [
    "Cut roses back in late winter.",
    "The cat sleeps on the sofa.",
    "A train leaves for Lisbon at noon.",
    "Bake the bread for forty minutes.",
]


@pytest.fixture(scope="module")
def _encoded(tmp_path_factory: pytest.TempPathFactory, encoder: object) -> Iterator[SearchEngine]:
    with clipsearch.open(tmp_path_factory.mktemp("encoded"), create=True, model=BUILTIN) as engine:
        yield engine


@pytest.fixture
def encoded(_encoded: SearchEngine) -> Iterator[SearchEngine]:
    """An empty library of the small builtin encoder, which is loaded once."""
    yield _encoded
    _encoded.delete(filters=Filter())


@pytest.fixture(scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipSearchVectorStore]:
    store = ClipSearchVectorStore(tmp_path_factory.mktemp("kept"), FAKE)
    yield store
    store.engine.close()


@pytest.fixture
def kept(_kept: ClipSearchVectorStore) -> Iterator[ClipSearchVectorStore]:
    """An empty store of vectors that are made elsewhere."""
    yield _kept
    _kept.delete(filter=Filter())


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory, encoder: object) -> Iterator[SearchEngine]:
    """A library with texts that were added, and files that were indexed."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "long.txt").write_text("\n\n".join(f"Paragraph {i}. {TEXTS[i % 4]}" for i in range(40)))
    noise_picture(1, (64, 48)).save(folder / "p.png")
    (folder / "p.png.txt").write_text("a grey carpet")
    with clipsearch.open(folder / ".clipsearch", create=True, model=BUILTIN) as engine:
        engine.index([folder])
        ClipSearchVectorStore(engine).add_texts(TEXTS, [{"number": i} for i in range(4)], ids=list("abcd"))
        yield engine


class TestStoreOfVectors(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, kept: ClipSearchVectorStore) -> VectorStore:
        return kept


class TestStoreOfTexts(VectorStoreIntegrationTests):
    """With the encoder of the library."""

    @pytest.fixture
    def vectorstore(self, encoded: SearchEngine) -> VectorStore:
        return ClipSearchVectorStore(encoded)


class TestDocumentIndex(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self, kept: ClipSearchVectorStore) -> DocumentIndex:
        return ClipSearchDocumentIndex(store=kept)


class TestAsyncDocumentIndex(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    async def index(self, kept: ClipSearchVectorStore) -> AsyncGenerator[DocumentIndex, None]:
        yield ClipSearchDocumentIndex(store=kept)


class OnNotes:
    """What a suite needs to know of the library of `notes`."""

    @pytest.fixture(autouse=True)
    def _notes(self, notes: SearchEngine) -> None:
        self.engine = notes


class TestRetriever(OnNotes, RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[ClipSearchRetriever]:
        return ClipSearchRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"library": self.engine}

    @property
    def retriever_query_example(self) -> str:
        return "gardening"


class TestDocumentIndexAsRetriever(OnNotes, RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[ClipSearchDocumentIndex]:
        return ClipSearchDocumentIndex

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"store": ClipSearchVectorStore(self.engine)}

    @property
    def retriever_query_example(self) -> str:
        return "gardening"


class TestEmbeddingsUnit(OnNotes, EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return ClipSearchEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"library": self.engine}


class TestEmbeddings(OnNotes, EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return ClipSearchEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"library": self.engine}


def test_answers_are_those_of_an_exact_store(kept):
    """Documents, their order, scores, and those chosen to differ, as LangChain's own store in memory has them."""
    exact = InMemoryVectorStore(FAKE)
    texts, ids = [f"text {i}" for i in range(60)], [f"id{i}" for i in range(60)]
    for store in (kept, exact):
        store.add_texts(texts, [{"i": i, "odd": bool(i % 2)} for i in range(60)], ids=ids)
    for name, row in zip(ids, kept.engine.vectors(ids).tolist(), strict=True):
        exact.store[name]["vector"] = row  # as the library keeps it, in float16
    for query in ("one", "three"):  # of which no two texts are as near as rounding tells
        ours, theirs = (store.similarity_search_with_score(query, k=10) for store in (kept, exact))
        assert [document for document, _ in ours] == [document for document, _ in theirs]
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=2e-3)
        vector = FAKE.embed_query(query)
        assert kept.similarity_search_by_vector(vector, k=5) == exact.similarity_search_by_vector(vector, k=5)
        for weight in (0.0, 0.3, 1.0):
            ours, theirs = (
                store.max_marginal_relevance_search(query, k=6, fetch_k=25, lambda_mult=weight)
                for store in (kept, exact)
            )
            assert ours == theirs
            assert ours == kept.max_marginal_relevance_search_by_vector(vector, k=6, fetch_k=25, lambda_mult=weight)
        odd = kept.similarity_search(query, k=30, filter={"odd": True})
        assert odd == exact.similarity_search(query, k=30, filter=lambda document: document.metadata["odd"])


def test_relevance_is_a_chance_where_there_are_enough_documents_to_tell(kept):
    kept.add_texts(["one", "two"])
    small = kept.similarity_search_with_relevance_scores("one", k=2)
    assert small == [
        (document, pytest.approx((1 + score) / 2)) for document, score in kept.similarity_search_with_score("one", k=2)
    ]
    kept.add_texts([f"text {i}" for i in range(500)])
    hits = kept.engine.search(vector=FAKE.embed_query("one"), kind="text", k=20)
    found = kept.similarity_search_with_relevance_scores("one", k=20)
    assert [score for _, score in found] == [hit.confidence for hit in hits]
    assert found[0][0].page_content == "one" and all(0 <= score <= 1 for _, score in found)
    kept_above = kept.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"k": 20, "score_threshold": found[3][1]}
    )
    assert len(kept_above.invoke("one")) == sum(score >= found[3][1] for _, score in found) < 20


def test_metadata_of_any_json_comes_back_and_can_be_filtered(kept):
    metadata = {"price": 18, "sizes": {"S": 2, "boxes": [[1, 2], [3]]}, "tags": ["warm", "wool"], "none": None}
    kept.add_documents([Document("a hat", id="hat", metadata=metadata), Document("a mug", id="mug")])
    assert kept.get_by_ids(["hat"])[0].metadata == metadata
    for allowed in ({"price": {"lt": 20}}, {"tags": "wool"}, Filter(where={"price": 18})):
        assert [each.id for each in kept.similarity_search("a mug", filter=allowed)] == ["hat"]
    assert kept.similarity_search("a mug", filter={"price": {"gt": 20}}) == []


def test_a_document_that_cannot_be_added_does_not_stop_the_others(kept):
    documents = [Document("a", id="a"), Document("b", id="b", metadata={"when": object()}), Document("c", id="c")]
    with pytest.raises(DocumentsFailedError, match=r"1 of 3 documents were not added. 'b': .*'when'") as caught:
        kept.add_documents(documents)
    assert caught.value.added == ["a", "c"] and [name for name, _ in caught.value.failed] == ["b"]
    assert [each.id for each in kept.get_by_ids(["c", "b", "a"])] == ["c", "a"]
    index = ClipSearchDocumentIndex(store=kept)
    assert index.upsert(documents) == {"succeeded": ["a", "c"], "failed": ["b"]}
    assert asyncio.run(index.aupsert(documents)) == {"succeeded": ["a", "c"], "failed": ["b"]}


def test_batches_add_all_and_the_last_of_an_id_wins(kept):
    texts = [f"text {i}" for i in range(25)]
    assert kept.add_texts(texts, ids=[*map(str, range(20)), *map(str, range(5))], batch_size=7)[20:] == list("01234")
    assert kept.engine.count() == 20
    assert kept.get_by_ids(["0", "19", "missing"]) == [Document("text 20", id="0"), Document("text 19", id="19")]


@pytest.mark.parametrize("lists", [{"metadatas": [{}]}, {"ids": ["a"]}, {"ids": ["a", "b", "c"]}])
def test_lists_of_different_lengths_add_nothing(kept, lists):
    with pytest.raises(ValueError, match="for 2 documents"):
        kept.add_texts(["one", "two"], **lists)
    with pytest.raises(ValueError, match="for 2 documents"):
        asyncio.run(kept.aadd_texts(["one", "two"], **lists))
    assert kept.engine.count() == 0


def test_delete_says_what(kept):
    kept.add_texts(["one", "two", "three"], [{"n": 1}, {"n": 2}, {"n": 3}], ids=list("abc"))
    with pytest.raises(InvalidInputError, match="ids or filters"):
        kept.delete()
    assert kept.delete(filter={"n": {"ge": 3}}) and kept.engine.count() == 2
    assert kept.delete([]) and kept.engine.count() == 2
    assert kept.delete(filter=Filter()) and kept.engine.count() == 0


def test_the_vectors_of_two_models_never_mix(kept, encoded):
    folder = kept.engine.library.folder
    kept.add_texts(["one"])
    again = ClipSearchVectorStore(folder, DeterministicFakeEmbedding(size=6))
    assert [each.page_content for each in again.similarity_search("one")] == ["one"]
    with pytest.raises(EncoderMismatchError):
        ClipSearchVectorStore(folder, DeterministicFakeEmbedding(size=7))
    with pytest.raises(EncoderMismatchError):
        ClipSearchVectorStore(folder, FAKE, model="another")
    ClipSearchVectorStore(encoded).add_texts(["one"])
    for engine in (encoded, encoded.library.folder):
        with pytest.raises(EncoderMismatchError):
            ClipSearchVectorStore(engine, DeterministicFakeEmbedding(size=encoded.library.encoder.dim))
    again.engine.close()


def test_a_store_is_made_from_documents(tmp_path, encoded):
    documents = [Document(text, id=str(i)) for i, text in enumerate(TEXTS)]
    store = ClipSearchVectorStore.from_documents(documents, FAKE, library=tmp_path / "made")
    assert store.get_by_ids(list("0123")) == documents
    own = ClipSearchVectorStore.from_documents(documents, ClipSearchEmbeddings(encoded))
    assert own.engine is encoded and own.embedding is None
    assert own.similarity_search("pruning roses", k=1)[0].id == "0"
    made = asyncio.run(ClipSearchVectorStore.afrom_texts(["one"], FAKE, [{"a": 1}], library=tmp_path / "async"))
    assert [each.metadata for each in made.similarity_search("one")] == [{"a": 1}]
    for each in (store, made):
        each.engine.close()


def test_pictures_are_documents(encoded, tmp_path):
    store = ClipSearchVectorStore(encoded)
    noise_picture(1, (64, 48)).save(tmp_path / "carpet.png")
    ids = store.add_images(
        [str(tmp_path / "carpet.png"), noise_picture(2, (64, 48))],
        [{"price": 9}, {"price": 30, "nested": {"a": [1]}}],
        ids=["carpet", None],
        captions=["a grey carpet", ""],
        keep="thumbnail",
    )
    assert ids[0] == "carpet"
    carpet = Document("a grey carpet", id="carpet", metadata={"price": 9, "source": str(tmp_path / "carpet.png")})
    other = Document("", id=ids[1], metadata={"price": 30, "nested": {"a": [1]}})
    assert store.get_by_ids(ids) == [carpet, other]
    assert store.similarity_search("a grey carpet", k=1) == [carpet]
    assert store.similarity_search_by_image(noise_picture(2, (64, 48)), k=1) == [other]
    assert store.similarity_search_by_image(noise_picture(2, (64, 48)), k=1, filter={"price": 9}) == [carpet]
    assert encoded.thumbnail(ids[1]).startswith(b"\xff\xd8")
    with pytest.raises(DocumentsFailedError, match="1 of 2"):
        store.add_images([str(tmp_path / "missing.png"), noise_picture(3, (64, 48))], ids=["x", "y"])
    assert len(store.get_by_ids(["x", "y"])) == 1
    with pytest.raises(InvalidInputError, match="pictures"):
        store.add_images([noise_picture(4, (64, 48))], captions=["one", "two"])


def test_an_id_that_looks_like_an_address_is_no_source(encoded):
    store = ClipSearchVectorStore(encoded)
    added = Document("words", id="file:///photos/a.jpg")
    assert store.add_documents([added]) == [added.id]
    assert store.get_by_ids([added.id]) == [added]


class WithPictures(DeterministicFakeEmbedding):
    """Embeddings of pictures as well, by their mean colour."""

    def embed_image(self, uris: list[Any]) -> list[list[float]]:
        return [self.embed_query(uri) for uri in uris]


def test_embeddings_of_pictures_are_kept_too(kept, tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for i, path in enumerate(paths):
        noise_picture(i, (32, 32)).save(path)
    with pytest.raises(InvalidInputError, match="embed_image"):
        kept.add_images(paths)
    with pytest.raises(InvalidInputError, match="embed_image"):
        kept.similarity_search_by_image(paths[0])
    store = ClipSearchVectorStore(kept.engine, WithPictures(size=6))
    store.add_images(paths, ids=list("abc"))
    assert [each.id for each in store.similarity_search_by_image(paths[1], k=1)] == ["b"]
    assert [each.id for each in store.similarity_search(paths[2], k=1)] == ["c"]


def test_embeddings_place_texts_and_pictures_in_one_space(encoded):
    embeddings = ClipSearchEmbeddings(encoded)
    query = embeddings.embed_query("a cat")
    rows = [query, *embeddings.embed_documents(["a dog"]), *embeddings.embed_image([noise_picture(1, (64, 48))])]
    assert {len(row) for row in rows} == {encoded.encoder.dim}
    assert all(sum(value * value for value in row) == pytest.approx(1, abs=1e-3) for row in rows)


def test_files_of_a_library_are_documents(notes, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", str(notes.library.folder))  # which is that of a retriever without another
    retriever = ClipSearchRetriever(k=3, filter=Filter(types=("text", "image")))
    found = retriever.invoke("Bake the bread for forty minutes.")
    record = next(each for each in found if each.id == "d")
    assert record.metadata["number"] == 3 and "source" not in record.metadata
    passage = next(each for each in found if each.id != "d")
    assert passage.metadata["source"] == passage.id == str(notes.library.folder.parent / "long.txt")
    assert passage.page_content and passage.metadata["modality"] == "text"
    picture = retriever.invoke("a grey carpet", k=1)[0]
    assert picture.page_content == "a grey carpet" and picture.metadata["modality"] == "image"
    assert {"score", "confidence"} <= picture.metadata.keys()
    assert [each.id for each in retriever.invoke("bread", filter={"number": {"lt": 2}}, modality="text")] in (
        ["a", "b"],
        ["b", "a"],
    )


def test_concurrent_callers_get_what_one_by_one_gets(notes):
    retriever = ClipSearchRetriever(library=notes, k=2)
    queries = [*TEXTS, "a grey carpet", "winter", "a cat", "food"] * 2
    assert asyncio.run(retriever.abatch(queries)) == [retriever.invoke(query) for query in queries]
    store = ClipSearchVectorStore(notes)
    found = asyncio.run(store.asimilarity_search_with_relevance_scores("winter", k=3))
    assert found == store.similarity_search_with_relevance_scores("winter", k=3)


def test_the_indexing_of_langchain_keeps_a_store_in_step(kept, encoded):
    """langchain_core.indexing.index, which skips what is known and deletes what has gone."""
    documents = [Document(text, metadata={"source": "notes", "n": i}) for i, text in enumerate(TEXTS)]
    targets = [kept, ClipSearchDocumentIndex(store=ClipSearchVectorStore(encoded))]
    for target in targets:
        manager = InMemoryRecordManager("test")
        manager.create_schema()
        options = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
        assert index(documents, manager, target, **options)["num_added"] == 4
        assert index(documents, manager, target, **options)["num_skipped"] == 4
        changed = asyncio.run(
            aindex([documents[0], Document("new", metadata={"source": "notes"})], manager, target, **options)
        )
        assert (changed["num_added"], changed["num_deleted"], changed["num_skipped"]) == (1, 3, 1)
    assert [kept.engine.count(), encoded.count()] == [2, 2]


def test_the_example_builds_a_prompt_of_captions_and_pictures(encoder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["rag_captioned_pictures.py", "a green circle", "--model", BUILTIN])
    runpy.run_path(str(ROOT / "examples" / "rag_captioned_pictures.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "human: [a-green-circle] a green circle\nhuman: <JPEG" in said
    assert said.endswith("human: a green circle\nanswer: (the answer of a chat model)\n")


def test_the_manual_shows_code_that_runs(manual, capsys):
    names: dict[str, Any] = {}
    opening = (ROOT / "docs" / "integrations.md").read_text().split("```python\n")[1].split("```")[0]
    for block in [opening, *python_blocks("integrations.md", "LangChain")]:
        exec(block, names)
    said = capsys.readouterr().out
    assert said.count(str(manual / "photos")) == 4 and "Cut roses in late winter." in said
    assert {each.id for each in names["found"]} == {"hat", "mug"}
    assert [each.id for each in names["store"].similarity_search("a gift")] == ["mug"]
    for each in ("store", "texts", "retriever"):
        names[each].engine.close()
