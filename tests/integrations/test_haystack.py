"""Haystack: the standard suites of its document stores, and what these leave out."""

import asyncio
import base64
import io
import json
import shutil
from datetime import datetime

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, ImageContent, SparseEmbedding
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites
from haystack.utils.filters import document_matches_filter
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import clipsearch
from clipsearch.integrations.haystack import (
    ClipSearchDocumentStore,
    ClipSearchEmbeddingRetriever,
    ClipSearchMultimodalRetriever,
)
from tests.support.libraries import index, photos
from tests.support.pages import python_blocks

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A library without documents; a copy of it is made faster than another one."""
    folder = tmp_path_factory.mktemp("blank") / "library"
    clipsearch.open(folder, create=True, model="a-model", dim=768).close()
    return folder


@pytest.fixture
def store(tmp_path, blank):
    """A store for embeddings of 768 numbers that are made elsewhere."""
    made = ClipSearchDocumentStore(shutil.copytree(blank, tmp_path / "library"), model="a-model", dim=768)
    yield made
    made.close()


@pytest.fixture
def own(tmp_path):
    """A store whose library embeds texts and pictures itself."""
    made = ClipSearchDocumentStore(tmp_path / "own", model="builtin-small", keep="thumbnail")
    yield made
    made.close()


def near(first, second):
    """Tell whether vectors point the same way, as far as float16 can say."""
    one, other = np.array(first), np.array(second)
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.999


class OurStore:
    """What the suites are run on."""

    @pytest.fixture
    def document_store(self, store):
        return store

    @staticmethod
    def assert_documents_are_equal(received, expected):
        """A library has unit vectors of float16; all else of a document comes back as it was."""
        assert len(received) == len(expected)
        for found, wanted in zip(received, expected, strict=True):
            assert (found.embedding is None) == (wanted.embedding is None)
            assert wanted.embedding is None or near(found.embedding, wanted.embedding)
            plain = [{**each.to_dict(flatten=False), "embedding": None} for each in (found, wanted)]
            assert plain[0] == plain[1]


class TestStandardSuites(
    OurStore,
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
    suites.FilterableDocsFixtureMixin,
):
    # For stores that can make their index again, apart from the documents. The suites skip them for all others.
    test_delete_all_documents_without_recreate_index = None
    test_delete_all_documents_with_recreate_index = None

    def test_write_documents(self, document_store):
        """Without a policy, a document whose id exists is refused."""
        document = Document(content="a text")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


class TestAsyncSuites(
    OurStore,
    async_suites.CountDocumentsAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
):
    # As above.
    test_delete_all_documents_without_recreate_index_async = None
    test_delete_all_documents_with_recreate_index_async = None

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store):
        document = Document(content="a text")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])


def test_every_suite_of_haystack_is_run():
    for module, ours in ((suites, TestStandardSuites), (async_suites, TestAsyncSuites)):
        theirs = {each for name, each in vars(module).items() if name.endswith(("Test", "Tests"))}
        assert theirs <= set(ours.__mro__)


META = {
    "name": "straße ☀",
    "price": 3.5,
    "sold": False,
    "none": None,
    "tags": ["a", "b"],
    "numbers": [1, 2.5],
    "person": {"name": "Ada", "born": {"year": 1815}},
    "with.dot": 1,
    "nothing": {},
}


def test_a_document_comes_back_as_it_was(store):
    document = Document(
        content="a text\n of two lines ",
        meta=META,
        embedding=[0.5] * 768,
        sparse_embedding=SparseEmbedding(indices=[1, 7], values=[0.5, 1.0]),
    )
    store.write_documents([document])
    OurStore.assert_documents_are_equal(store.filter_documents(), [document])
    for field, value in (("person.name", "Ada"), ("person.born.year", 1815), ("price", 3.5), ("tags", "b")):
        wanted = {"field": f"meta.{field}", "operator": "==", "value": value}
        assert [each.id for each in store.filter_documents(wanted)] == [document.id]


def test_times_and_paths_of_meta_come_back_as_texts(store, tmp_path):
    store.write_documents([Document(content="a", meta={"at": datetime(2024, 5, 1), "path": tmp_path})])
    assert store.filter_documents()[0].meta == {"at": "2024-05-01T00:00:00", "path": str(tmp_path)}
    later = {"field": "meta.at", "operator": ">", "value": datetime(2024, 4, 1)}
    assert store.count_documents_by_filter(later) == 1


def test_fields_within_dicts_are_updated(store):
    store.write_documents([Document(content="a", meta=META), Document(content="b", meta={"price": 3.5})])
    everything = {"field": "meta.price", "operator": "==", "value": 3.5}
    assert store.update_by_filter(everything, {"at": datetime(2024, 5, 1)}) == 2
    assert {each.meta.pop("at") for each in store.filter_documents()} == {"2024-05-01T00:00:00"}
    assert store.update_by_filter(everything, {"person": {"name": "Grace"}, "price": 4}) == 2
    first, second = store.filter_documents()
    assert first.meta == {**META, "person": {"name": "Grace"}, "price": 4, "at": "2024-05-01T00:00:00"}
    assert second.meta == {"person": {"name": "Grace"}, "price": 4, "at": "2024-05-01T00:00:00"}
    born = {"field": "meta.person.born.year", "operator": "!=", "value": None}
    assert store.count_documents_by_filter(born) == 0


def test_fields_that_change_their_kind_are_updated(store):
    values = [1, {"a": 1, "b": {"c": 2}}, {"a": [1]}, ["x"], None, {}, {"b": {"c": "x"}}, "y"]
    store.write_documents([Document(content=str(value), meta={"field": value, "other": 1}) for value in values])
    for value in values:
        assert store.update_by_filter(None, {"field": value}) == len(values)
        assert [each.meta for each in store.filter_documents()] == [{"field": value, "other": 1}] * len(values)
        inner = {"field": "meta.field.b.c", "operator": "!=", "value": None}
        has_inner = isinstance(value, dict) and "b" in value
        assert store.count_documents_by_filter(inner) == (len(values) if has_inner else 0)


def test_skip_takes_the_first_and_overwrite_the_last(store):
    first, second = Document(id="1", content="one"), Document(id="1", content="two")
    assert store.write_documents([first, second], DuplicatePolicy.SKIP) == 1
    assert store.filter_documents()[0].content == "one"
    assert store.write_documents([first, second], DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents()[0].content == "two"


def test_fail_writes_nothing(store):
    store.write_documents([Document(id="2", content="two")])
    with pytest.raises(DuplicateDocumentError, match="'2'"):
        store.write_documents([Document(id="1", content="one"), Document(id="2", content="2")], DuplicatePolicy.FAIL)
    assert store.count_documents() == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Document(id="bad"), "no text, picture or embedding"),
        (Document(id="bad", content="a", blob=ByteStream(b"%PDF", mime_type="application/pdf")), "application/pdf"),
        (Document(id="bad", content="a", embedding=[1.0, 2.0]), "768"),
        (Document(id="bad", content="a", meta={"it": object()}), "JSON"),
        (Document(id="bad", content="a", embedding=[float("nan")] * 768), "bad"),
    ],
)
def test_a_document_that_cannot_be_written_says_why_and_the_others_are(store, bad, reason):
    with pytest.raises(DocumentStoreError, match=reason):
        store.write_documents([Document(content="first"), bad, Document(content="last")])
    assert [each.content for each in store.filter_documents()] == ["first", "last"]


# What Haystack's own filters say of documents is what a library has to say.

FIELDS = {
    "meta.number": st.sampled_from([-1, 0, 1, 2.5, None]),
    "meta.name": st.sampled_from(["a", "b", "ä", None]),
    "meta.flag": st.sampled_from([True, False, None]),
    "meta.day": st.sampled_from(["2024-01-01", "2024-02-01", "2025-01-01", None]),
    "meta.inner.number": st.sampled_from([1, 2, None]),
    "id": st.sampled_from(["0", "1", "7"]),
}
ORDERED = ("meta.number", "meta.day", "meta.inner.number")


@st.composite
def comparisons(draw):
    field = draw(st.sampled_from(sorted(FIELDS)))
    operators = ["==", "!=", "in", "not in", *([">", ">=", "<", "<="] if field in ORDERED else [])]
    operator = draw(st.sampled_from(operators))
    value = draw(st.lists(FIELDS[field], max_size=3) if "in" in operator else FIELDS[field])
    return {"field": field, "operator": operator, "value": value}


def combinations(parts):
    return st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(parts, max_size=3)}
    )


def some_documents():
    random = np.random.default_rng(3)
    for number in range(40):
        meta = {
            "number": [-1, 0, 1, 2, 2.5, None][random.integers(6)],
            "name": ["a", "b", "ä", None][random.integers(4)],
            "flag": [True, False, None][random.integers(3)],
            "day": ["2024-01-01", "2024-02-01", "2025-01-01", None][random.integers(4)],
            "inner": [{"number": 1}, {"number": 2}, {}, None][random.integers(4)],
        }
        kept = {name: value for name, value in meta.items() if random.random() < 0.8}
        yield Document(id=str(number), content=f"text {number}", meta=kept, embedding=random.normal(size=8).tolist())


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    documents = list(some_documents())
    made = ClipSearchDocumentStore(tmp_path_factory.mktemp("filled"), model="a-model", dim=8)
    made.write_documents(documents)
    yield made, documents
    made.close()


@settings(max_examples=80)
@given(filters=st.recursive(comparisons(), combinations, max_leaves=6))
def test_filters_find_what_those_of_haystack_find(filled, filters):
    made, documents = filled
    expected = [each.id for each in documents if document_matches_filter(filters, each)]
    assert [each.id for each in made.filter_documents(filters)] == expected
    assert made.count_documents_by_filter(filters) == len(expected)


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.x", "operator": "~", "value": 1},
        {"field": "meta.x", "operator": "==", "value": [1]},
        {"field": "meta.x", "operator": "==", "value": {"a": 1}},
        {"field": "meta.x", "operator": ">", "value": True},
        {"field": "meta.x", "operator": ">", "value": "tomorrow"},
        {"field": "meta.x", "operator": "==", "value": float("nan")},
        {"field": "meta.", "operator": "==", "value": 1},
        {"field": 3, "operator": "==", "value": 1},
        {"field": "content", "operator": "==", "value": "a text"},
        {"field": "embedding", "operator": "==", "value": None},
        {"operator": "XOR", "conditions": []},
        {"operator": "AND", "conditions": "all"},
        {"operator": "AND", "conditions": ["meta.x"]},
        {"field": "meta.x", "operator": ["=="], "value": 1},
        ["meta.x"],
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(store, filters):
    with pytest.raises(FilterError):
        store.filter_documents(filters)


@pytest.mark.parametrize("operator", ["AND", "OR", "NOT"])
def test_a_filter_of_great_depth_is_refused(filled, operator):
    made, documents = filled
    deep = {"field": "meta.number", "operator": "==", "value": 1}
    for _ in range(15):
        deep = {"operator": operator, "conditions": [deep]}
    assert 0 < made.count_documents_by_filter(deep) < len(documents)
    for _ in range(5000):
        deep = {"operator": operator, "conditions": [deep]}
    with pytest.raises(FilterError, match="deep"):
        made.filter_documents(deep)


def test_the_nearest_embeddings_are_retrieved(filled):
    made, documents = filled
    retriever = ClipSearchEmbeddingRetriever(document_store=made, top_k=3, return_embedding=True)
    asked = documents[4].embedding
    found = retriever.run(query_embedding=asked)["documents"]
    scores = [
        np.dot(asked, each.embedding) / np.linalg.norm(asked) / np.linalg.norm(each.embedding) for each in documents
    ]
    assert [each.id for each in found] == [documents[i].id for i in np.argsort(scores)[::-1][:3]]
    assert found[0].score == pytest.approx(1, abs=1e-3) and near(found[0].embedding, asked)
    assert retriever.run(query_embedding=asked, top_k=0)["documents"] == []
    assert retriever.run(query_embedding=asked, top_k=1)["documents"][0].meta == documents[4].meta


def test_filters_of_a_run_replace_or_join_those_of_the_retriever(filled):
    made, documents = filled
    numbers = {"field": "meta.number", "operator": ">=", "value": 1}
    names = {"field": "meta.name", "operator": "==", "value": "a"}
    for policy, both in ((FilterPolicy.REPLACE, False), ("merge", True)):
        retriever = ClipSearchEmbeddingRetriever(made, filters=numbers, top_k=40, filter_policy=policy)
        found = {each.id for each in retriever.run([1.0] * 8, filters=names)["documents"]}
        passing = [names, numbers] if both else [names]
        assert found == {each.id for each in documents if all(document_matches_filter(one, each) for one in passing)}


@pytest.mark.asyncio
async def test_many_retrievals_at_once_find_what_each_finds(filled):
    made, documents = filled
    retriever = ClipSearchEmbeddingRetriever(made, top_k=5)
    asked = [each.embedding for each in documents[:10]]
    together = await asyncio.gather(*(retriever.run_async(query_embedding=each) for each in asked))
    assert together == [retriever.run(query_embedding=each) for each in asked]


def test_texts_and_pictures_are_retrieved_by_either(own, tmp_path):
    red, blue = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    buffer = io.BytesIO()
    red.save(buffer, "PNG")
    blue.save(tmp_path / "blue.png")
    own.write_documents(
        [
            Document(id="red", blob=ByteStream(buffer.getvalue(), mime_type="image/png", meta={"of": "red"})),
            Document(id="blue", meta={"file_path": str(tmp_path / "blue.png")}),
            Document(id="words", content="sailing boats in the harbour"),
        ]
    )
    retriever = ClipSearchMultimodalRetriever(document_store=own, top_k=1)
    assert retriever.run(query="sailing boats in the harbour")["documents"][0].id == "words"
    for image in (str(tmp_path / "blue.png"), tmp_path / "blue.png"):
        assert retriever.run(image=image)["documents"][0].id == "blue"
    found = retriever.run(image=ByteStream(buffer.getvalue()))["documents"][0]
    assert (found.id, found.content, found.meta) == ("red", None, {})
    assert found.blob.mime_type == "image/jpeg" and found.blob.meta == {"of": "red"}
    assert Image.open(io.BytesIO(found.blob.data)).getpixel((8, 8))[0] > 200
    content = ImageContent(base64.b64encode(buffer.getvalue()).decode(), mime_type="image/png")
    assert asyncio.run(retriever.run_async(image=content))["documents"][0].id == "red"
    pictures = ClipSearchMultimodalRetriever(own, modality="image")
    assert {each.id for each in pictures.run(query="boats", image=tmp_path / "blue.png")["documents"]} == {
        "red",
        "blue",
    }
    with pytest.raises(ValueError, match="neither"):
        retriever.run()
    with pytest.raises(ValueError, match="bytes"):
        retriever.run(query="boats", image=content)


@pytest.mark.slow
def test_files_of_a_library_are_documents(tmp_path, encoder):
    photos(tmp_path / "photos", 2)
    (tmp_path / "photos" / "note.txt").write_text("The boat sails at noon.")
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    with clipsearch.open(tmp_path / "library") as engine:
        made = ClipSearchDocumentStore(engine)
        assert made.count_documents() == 3
        found = ClipSearchMultimodalRetriever(made, top_k=1).run(query="When does the boat sail?")["documents"][0]
        assert found.id == found.meta["file_path"] == str(tmp_path / "photos" / "note.txt")
        assert found.content == "The boat sails at noon."
        picture = made.filter_documents(
            {"field": "id", "operator": "==", "value": str(tmp_path / "photos" / "p000.jpg")}
        )
        assert [each.content for each in picture] == [None]


def test_an_empty_store_finds_nothing(store):
    assert ClipSearchEmbeddingRetriever(store).run([1.0] * 768) == {"documents": []}
    assert store.filter_documents() == [] and store.delete_by_filter(None) == 0


@pytest.mark.parametrize(
    "extras",
    ["", "{", "3", "[]", '{"embedding": true, "sparse_embedding": {"a": 1}, "blob": 3}', "[" * 100_000, 3, ["a"]],
)
def test_metadata_that_another_program_wrote_does_no_harm(store, extras):
    metadata = {"_haystack": extras, "_json.a": extras, "_json": "x", "b.c": 1, "price": 3}
    store.engine.add([{"id": "1", "text": "a", "metadata": metadata}])
    (document,) = store.filter_documents()
    assert (document.id, document.content, document.embedding, document.sparse_embedding) == ("1", "a", None, None)
    assert document.meta["price"] == 3 and document.meta["b.c"] == 1
    assert store.update_by_filter(None, {"a": {"d": 1}}) == 1
    assert store.filter_documents()[0].meta["a"] == {"d": 1}


def test_a_library_of_embeddings_embeds_no_query(store):
    store.write_documents([Document(content="a", embedding=[1.0] * 768)])
    with pytest.raises(clipsearch.ClipSearchError):
        ClipSearchMultimodalRetriever(store).run(query="a")


def test_a_store_is_written_in_a_pipeline_and_read_again(store, tmp_path):
    store.write_documents([Document(content="a", embedding=[1.0] * 768)])
    pipeline = Pipeline()
    pipeline.add_component("near", ClipSearchEmbeddingRetriever(store, top_k=2, filter_policy=FilterPolicy.MERGE))
    pipeline.add_component("any", ClipSearchMultimodalRetriever(store, modality="text"))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["clipsearch.integrations.haystack.*"])
    assert again.to_dict() == pipeline.to_dict()
    reader = again.get_component("near")
    assert reader.filter_policy is FilterPolicy.MERGE and reader.top_k == 2
    found = again.run({"near": {"query_embedding": [1.0] * 768}, "any": {"query": "a", "top_k": 0}})
    assert [each.content for each in found["near"]["documents"]] == ["a"]


def test_fields_are_indexed_where_that_is_asked_for(tmp_path):
    made = ClipSearchDocumentStore(tmp_path / "library", model="m", dim=2, index_metadata=["price", "maker.name"])
    made.write_documents([Document(content=name, meta={"price": 3, "maker": {"name": name}}) for name in "ab"])
    cheap = {"field": "meta.price", "operator": "<", "value": 5}
    both = {"operator": "AND", "conditions": [cheap, {"field": "meta.maker.name", "operator": "==", "value": "b"}]}
    assert (made.count_documents_by_filter(cheap), made.count_documents_by_filter(both)) == (2, 1)
    made.close()


def test_a_store_that_is_never_used_makes_no_library(tmp_path):
    data = ClipSearchDocumentStore(tmp_path / "library", model="m", dim=4, index_metadata=["a"]).to_dict()
    made = ClipSearchDocumentStore.from_dict(json.loads(json.dumps(data)))
    made.close()
    assert made.to_dict() == data and not (tmp_path / "library").exists()


def test_a_retriever_of_another_store_or_of_nothing_is_refused(store):
    with pytest.raises(TypeError, match="ClipSearchDocumentStore"):
        ClipSearchEmbeddingRetriever("library")
    with pytest.raises(ValueError, match="top_k"):
        ClipSearchMultimodalRetriever(store, top_k=0)


@pytest.mark.usefixtures("manual")
def test_the_manual_shows_code_that_runs():
    names = {}
    for block in python_blocks("integrations.md", "Haystack"):
        exec(block, names)
    assert {each.id for each in names["found"]} == {each.id for each in names["like_this"]} == {"hat", "mug"}
    names["documents"].close()
