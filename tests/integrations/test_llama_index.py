"""LlamaIndex: a vector store under its own indexes, and the retriever."""

import asyncio
import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from PIL import Image

import clipsearch
from clipsearch import Filter, InvalidInputError
from clipsearch.integrations.llama_index import (
    ClipSearchEmbedding,
    ClipSearchRetriever,
    ClipSearchVectorStore,
    NodesFailedError,
)
from tests.support.libraries import index, photos
from tests.support.pages import python_blocks

DIM = 8

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def store(tmp_path):
    """A store for embeddings that are made elsewhere."""
    made = ClipSearchVectorStore(tmp_path / "library", model="a-model", dim=DIM)
    yield made
    made.client.close()


@pytest.fixture
def own(tmp_path):
    """A store whose library embeds texts and pictures itself."""
    made = ClipSearchVectorStore(tmp_path / "own", model="builtin-small", keep="thumbnail")
    yield made
    made.client.close()


class LetterEmbedding(BaseEmbedding):
    """Counts letters: texts that share them are near each other."""

    def _get_text_embedding(self, text):
        counts = [1 + text.lower().count(letter) for letter in "aeioulst"]
        return [float(each) for each in counts]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


def colour(name):
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), name).save(picture, "PNG")
    return picture.getvalue()


def plain(node):
    return {name: value for name, value in node.to_dict().items() if name not in ("embedding", "image")}


META = {"name": "straße ☀", "price": 3.5, "sold": False, "none": None, "tags": ["a", "b"], "inner": {"x": [1, 2]}}


def nodes_of_every_kind(folder):
    (folder / "red.png").write_bytes(colour("red"))
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
    return [
        TextNode(id_="text", text="a text\n of two lines ", metadata=META, relationships=source, start_char_idx=3),
        IndexNode(id_="index", text="an index", index_id="other"),
        ImageNode(id_="path", text="a red square", image_path=str(folder / "red.png"), metadata=META),
        ImageNode(id_="bytes", image=base64.b64encode(colour("blue")).decode(), relationships=source),
        Node(id_="node", text_resource=MediaResource(text="words"), metadata=META),
        Node(id_="image", image_resource=MediaResource(path=folder / "red.png"), text_template="{content}"),
        Document(id_="document", text="a document", metadata=META),
        ImageDocument(id_="image document", image_path=str(folder / "red.png"), text="red again"),
    ]


def test_nodes_of_every_kind_come_back_as_they_were(own, tmp_path):
    nodes = nodes_of_every_kind(tmp_path)
    assert own.add(nodes) == [node.node_id for node in nodes]
    found = own.get_nodes([node.node_id for node in nodes])
    assert [type(node) for node in found] == [type(node) for node in nodes]
    for got, wanted in zip(found, nodes, strict=True):
        assert (plain(got) == plain(wanted) and got.hash == wanted.hash) or wanted.node_id == "bytes"
    assert [node.node_id for node in own.get_nodes(["index", "text", "nowhere"])] == ["index", "text"]
    kept = Image.open(io.BytesIO(base64.b64decode(found[3].image)))
    assert kept.getpixel((8, 8))[2] > 200


def test_nodes_are_deleted_by_document_by_id_and_by_filter(own, tmp_path):
    own.add(nodes_of_every_kind(tmp_path))
    own.delete("doc")
    assert {node.node_id for node in own.get_nodes()}.isdisjoint({"text", "bytes"})
    own.delete_nodes(["index", "nowhere"])
    own.delete_nodes(["path", "image"], MetadataFilters(filters=[MetadataFilter(key="price", value=3.5)]))
    assert {node.node_id for node in own.get_nodes()} == {"image", "node", "document", "image document"}
    with pytest.raises(InvalidInputError, match="clear"):
        own.delete_nodes()
    own.delete_nodes([])
    own.clear()
    assert own.get_nodes() == [] and own.client.count() == 0


def test_metadata_that_is_changed_in_the_library_is_that_of_the_node(own):
    own.add([TextNode(id_="1", text="a", metadata={"price": 1, "gone": 2, "inner": {"x": 1}})])
    own.client.update("1", metadata={"price": 5, "new": "b"}, remove=["gone"])
    assert own.get_nodes()[0].metadata == {"price": 5, "inner": {"x": 1}, "new": "b"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (TextNode(id_="bad"), "no text, picture or embedding"),
        (TextNode(id_="bad", text="a", embedding=[1.0] * 3), "257"),
        (ImageNode(id_="bad", image="!"), "base64"),
        (ImageNode(id_="bad", image=base64.b64encode(b"no picture").decode()), "bad"),
        (ImageNode(id_="bad", image_path="/nowhere/red.png"), "No such file"),
        (ImageNode(id_="bad", image_url="http://localhost:1/red.png"), "localhost"),
        (TextNode(id_="bad", text="a", metadata={"it": object()}), "JSON"),
    ],
)
def test_a_node_that_cannot_be_added_says_why_and_the_others_are(own, bad, reason):
    with pytest.raises(NodesFailedError, match=reason) as caught:
        own.add([TextNode(id_="1", text="first"), bad, TextNode(id_="2", text="last")])
    assert [name for name, _ in caught.value.failed] == ["bad"]
    assert {node.node_id for node in own.get_nodes()} == {"1", "2"}


def test_an_index_over_embeddings_of_another_model(store):
    texts = ["aaa", "eee", "iii", "ooo"]
    nodes = [TextNode(id_=text, text=text, metadata={"vowel": text[0]}) for text in texts]
    context = StorageContext.from_defaults(vector_store=store)
    made = VectorStoreIndex(nodes, storage_context=context, embed_model=LetterEmbedding())
    found = made.as_retriever(similarity_top_k=2).retrieve("a")
    assert found[0].node.text == "aaa" and found[0].score > found[1].score
    assert found[0].metadata == {"vowel": "a"}
    made.insert(Document(id_="doc", text="uuu"))
    assert made.as_retriever(similarity_top_k=1).retrieve("u")[0].node.ref_doc_id == "doc"
    made.delete_ref_doc("doc")
    made.delete_nodes(["aaa"])
    again = VectorStoreIndex.from_vector_store(store, embed_model=LetterEmbedding())
    names = {each.node_id for each in again.as_retriever(similarity_top_k=10).retrieve("a")}
    assert names == {"eee", "iii", "ooo"}
    filters = MetadataFilters(filters=[MetadataFilter(key="vowel", value=["o", "i"], operator=FilterOperator.IN)])
    names = {each.node_id for each in again.as_retriever(filters=filters).retrieve("a")}
    assert names == {"iii", "ooo"}


def test_an_index_over_a_mock_embedding(store):
    made = VectorStoreIndex(
        [TextNode(id_="1", text="a")],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=MockEmbedding(embed_dim=DIM),
    )
    found = made.as_retriever().retrieve("anything")
    assert [(each.node_id, round(each.score, 2)) for each in found] == [("1", 1.0)]


@pytest.mark.asyncio
async def test_an_index_is_filled_and_searched_asynchronously(store):
    made = VectorStoreIndex(
        [], storage_context=StorageContext.from_defaults(vector_store=store), embed_model=LetterEmbedding()
    )
    await made.ainsert_nodes([TextNode(id_=each * 3, text=each * 3) for each in "aeio"])
    retriever = made.as_retriever(similarity_top_k=1)
    found = await asyncio.gather(*(retriever.aretrieve(each) for each in "aeio"))
    assert [each[0].node_id for each in found] == ["aaa", "eee", "iii", "ooo"]
    assert len(await store.aget_nodes()) == 4
    await store.adelete_nodes(["aaa"])
    await store.aclear()
    assert await store.aget_nodes() == []


def test_an_index_over_the_encoder_of_the_library(own, tmp_path):
    (tmp_path / "red.png").write_bytes(colour("red"))
    embedding = ClipSearchEmbedding(own.client)
    made = VectorStoreIndex(
        [TextNode(id_="boats", text="sailing boats in the harbour"), TextNode(id_="cats", text="a cat on a sofa")],
        storage_context=StorageContext.from_defaults(vector_store=own),
        embed_model=embedding,
    )
    assert made.as_retriever(similarity_top_k=1).retrieve("a kitten on a couch")[0].node_id == "cats"
    hybrid = made.as_retriever(similarity_top_k=1, vector_store_query_mode="hybrid")
    assert hybrid.retrieve("harbour")[0].node_id == "boats"
    own.add([ImageNode(id_="red", image_path=str(tmp_path / "red.png"))])
    bundle = QueryBundle("", embedding=embedding.get_image_embedding(str(tmp_path / "red.png")))
    only = {"kind": "image", "modality": "image"}
    found = VectorIndexRetriever(made, similarity_top_k=1, vector_store_kwargs=only).retrieve(bundle)[0]
    assert found.node_id == "red" and isinstance(found.node, ImageNode) and found.score > 0.99
    assert np.allclose(bundle.embedding, embedding.get_image_embedding(io.BytesIO(colour("red"))), atol=1e-3)


def test_texts_are_found_in_an_index_that_pictures_were_inserted_into(store):
    context = StorageContext.from_defaults(vector_store=store)
    made = VectorStoreIndex([], storage_context=context, embed_model=LetterEmbedding())
    made.insert_nodes(
        [TextNode(id_="aaa", text="aaa"), ImageNode(id_="eee", text="eee", image_url="https://localhost/e")]
    )
    found = VectorIndexRetriever(made).retrieve("a")
    assert [each.node_id for each in found] == ["aaa", "eee"] and found[1].node.image_url == "https://localhost/e"
    assert [each.node_id for each in made.as_retriever().retrieve("a")] == ["eee"]  # as LlamaIndex asks for it


def test_a_multi_modal_index_over_one_encoder(tmp_path):
    (tmp_path / "red.png").write_bytes(colour("red"))
    with clipsearch.open(tmp_path / "texts", create=True, model="builtin-small") as texts:
        pictures = ClipSearchVectorStore(tmp_path / "pictures", model="builtin-small")
        embedding = ClipSearchEmbedding(texts)
        context = StorageContext.from_defaults(vector_store=ClipSearchVectorStore(texts), image_store=pictures)
        picture = ImageNode(id_="red", image_path=str(tmp_path / "red.png"), metadata={"name": "red.png"})
        made = MultiModalVectorStoreIndex(
            [TextNode(id_="boats", text="sailing boats"), picture],
            storage_context=context,
            embed_model=embedding,
            image_embed_model=embedding,
        )
        retriever = made.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
        assert [each.node_id for each in retriever.retrieve("boats")] == ["boats", "red"]
        assert [each.node_id for each in retriever.image_to_image_retrieve(str(tmp_path / "red.png"))] == ["red"]
        pictures.client.close()


def embedded(store, count=30):
    random = np.random.default_rng(7)
    nodes = [
        TextNode(id_=str(number), text=f"text {number}", embedding=random.normal(size=DIM).tolist())
        for number in range(count)
    ]
    store.add(nodes)
    return nodes


def test_a_query_takes_ids_of_nodes_and_of_documents(store):
    nodes = embedded(store)
    asked = [1.0] * DIM
    exact = sorted(nodes, key=lambda node: -np.dot(asked, node.embedding) / np.linalg.norm(node.embedding))
    found = store.query(VectorStoreQuery(asked, similarity_top_k=5))
    assert found.ids == [node.node_id for node in exact[:5]] == [node.node_id for node in found.nodes]
    assert found.similarities == sorted(found.similarities, reverse=True)
    some = [node.node_id for node in exact[10:12]]
    assert store.query(VectorStoreQuery(asked, similarity_top_k=5, node_ids=some)).ids == some
    assert store.query(VectorStoreQuery(asked, similarity_top_k=5, doc_ids=["doc"])).ids == []


def test_marginal_relevance_passes_over_what_repeats(store):
    asked = np.eye(DIM)[0]
    near, nearer, other = (asked + 0.1 * np.eye(DIM)[1], asked + 0.09 * np.eye(DIM)[1], asked + np.eye(DIM)[2])
    for name, vector in (("near", near), ("nearer", nearer), ("other", other)):
        store.add([TextNode(id_=name, text=name, embedding=vector.tolist())])
    query = VectorStoreQuery(asked.tolist(), similarity_top_k=2, mode=VectorStoreQueryMode.MMR)
    assert store.query(query).ids == ["nearer", "other"]
    assert store.query(query, mmr_threshold=1.0).ids == ["nearer", "near"]
    assert store.query(query, mmr_prefetch_k=2).ids == ["nearer", "near"]
    assert store.query(VectorStoreQuery(asked.tolist(), similarity_top_k=2)).ids == ["nearer", "near"]
    assert asyncio.run(store.aquery(query)).ids == ["nearer", "other"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (VectorStoreQuery([1.0] * DIM, mode=VectorStoreQueryMode.SVM), "svm"),
        (VectorStoreQuery(query_str="a", mode=VectorStoreQueryMode.TEXT_SEARCH), "text_search"),
        (VectorStoreQuery(query_str="a", mode=VectorStoreQueryMode.HYBRID, alpha=0.5), "alpha"),
        (VectorStoreQuery([1.0] * 3), "8"),
        (VectorStoreQuery(), "one of text, image and vector"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(store, query, reason):
    embedded(store, 3)
    with pytest.raises(clipsearch.ClipSearchError, match=reason):
        store.query(query)


FIELDS = {
    "number": st.sampled_from([-1, 0, 1, 2.5]),
    "name": st.sampled_from(["a", "b", "ä"]),
    "tags": st.sampled_from(["a", "b", "c"]),
}
ONE = [FilterOperator.EQ, FilterOperator.NE]
SOME = [FilterOperator.IN, FilterOperator.NIN]
ORDER = [FilterOperator.GT, FilterOperator.LT, FilterOperator.GTE, FilterOperator.LTE]
OPERATORS = {
    "number": ONE + SOME + ORDER,
    "name": [*ONE, *SOME, *ORDER, FilterOperator.TEXT_MATCH, FilterOperator.IS_EMPTY],
    "tags": [FilterOperator.CONTAINS, FilterOperator.ANY, FilterOperator.ALL, FilterOperator.IS_EMPTY],
}


@st.composite
def comparisons(draw):
    key = draw(st.sampled_from(sorted(FIELDS)))
    operator = draw(st.sampled_from(OPERATORS[key]))
    if operator in (*SOME, FilterOperator.ANY, FilterOperator.ALL):
        value = draw(st.lists(FIELDS[key], min_size=1, max_size=3).filter(lambda all: len({*map(type, all)}) == 1))
    else:
        value = draw(FIELDS[key])
    return MetadataFilter(key=key, operator=operator, value=value)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    random = np.random.default_rng(3)
    nodes = []
    for number in range(40):
        meta = {
            "number": [-1, 0, 1, 2, 2.5, None][random.integers(6)],
            "name": ["a", "b", "ä", "", None][random.integers(5)],
            "tags": [["a"], ["b", "c"], ["a", "b", "c"], [], None][random.integers(5)],
        }
        kept = {name: value for name, value in meta.items() if random.random() < 0.8}
        nodes.append(TextNode(id_=str(number), text="t", metadata=kept, embedding=random.normal(size=DIM).tolist()))
    made = ClipSearchVectorStore(tmp_path_factory.mktemp("filled"), model="a-model", dim=DIM)
    made.add(nodes)
    yield made, nodes
    made.client.close()


@settings(max_examples=80)
@given(filters=st.lists(comparisons(), max_size=4), condition=st.sampled_from(FilterCondition))
def test_filters_find_what_those_of_llama_index_find(filled, filters, condition):
    made, nodes = filled
    wanted = MetadataFilters(filters=filters, condition=condition)
    matches = build_metadata_filter_fn({node.node_id: node.metadata for node in nodes}.__getitem__, wanted)
    expected = [node.node_id for node in nodes if matches(node.node_id)]
    assert [node.node_id for node in made.get_nodes(filters=wanted)] == expected


def test_filters_are_nested(filled):
    made, nodes = filled
    inner = MetadataFilters(
        filters=[MetadataFilter(key="name", value="a"), MetadataFilter(key="number", value=1)],
        condition=FilterCondition.OR,
    )
    wanted = MetadataFilters(filters=[inner, MetadataFilter(key="number", value=0, operator=FilterOperator.GTE)])
    expected = [
        node.node_id
        for node in nodes
        if (node.metadata.get("name") == "a" or node.metadata.get("number") == 1)
        and (node.metadata.get("number") or -1) >= 0
    ]
    found = [node.node_id for node in made.get_nodes(filters=wanted)]
    assert found == [each for each in (n.node_id for n in nodes) if each in found] and {*expected} <= {*found}


def test_filters_of_great_depth_are_refused(filled):
    deep = MetadataFilters(filters=[MetadataFilter(key="name", value="a")])
    for _ in range(40):
        deep = MetadataFilters(filters=[deep], condition=FilterCondition.NOT)
    with pytest.raises(InvalidInputError, match="deep"):
        filled[0].get_nodes(filters=deep)


@pytest.mark.parametrize(
    "wanted",
    [
        MetadataFilter(key="name", value="a", operator=FilterOperator.TEXT_MATCH_INSENSITIVE),
        MetadataFilter(key="name", value="a", operator=FilterOperator.IN),
        MetadataFilter(key="name", value=["a"], operator=FilterOperator.EQ),
        MetadataFilter(key="name", value=None, operator=FilterOperator.GT),
        MetadataFilter(key="", value="a"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(filled, wanted):
    with pytest.raises(InvalidInputError):
        filled[0].get_nodes(filters=MetadataFilters(filters=[wanted]))


def test_the_retriever_finds_files_by_texts_and_by_pictures(tmp_path, encoder):
    paths = photos(tmp_path / "photos", 3)
    note = tmp_path / "photos" / "note.txt"
    note.write_text("The boat sails at noon.")
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    retriever = ClipSearchRetriever(tmp_path / "library", similarity_top_k=2)
    found = retriever.retrieve("When does the boat sail?")[0]
    assert (type(found.node), found.node_id, found.text) == (TextNode, str(note), "The boat sails at noon.")
    found = retriever.retrieve(QueryBundle("", image_path=str(paths[1])))[0]
    assert isinstance(found.node, ImageNode) and found.node.image_path == found.metadata["file_path"] == str(paths[1])
    assert found.score > 0.99
    assert retriever.image_to_image_retrieve(str(paths[2]))[0].node_id == str(paths[2])
    assert {type(each.node) for each in retriever.text_to_image_retrieve("boats")} == {ImageNode}
    assert {type(each.node) for each in retriever.text_retrieve("boats")} == {TextNode}
    both = retriever.retrieve(QueryBundle("photo", image_path=str(paths[1])))
    assert len(both) == 2
    vector = retriever.engine.vectors([str(paths[0])])[0].tolist()
    assert retriever.retrieve(QueryBundle("", embedding=vector))[0].node_id == str(paths[0])
    with pytest.raises(InvalidInputError, match="image_path"):
        retriever.retrieve(" ")
    only = ClipSearchRetriever(retriever.engine, filters=Filter(types=("text",)))
    assert [each.node_id for each in only.retrieve("photo")] == [str(note)]
    retriever.engine.close()


@pytest.mark.asyncio
async def test_the_retriever_answers_asynchronously(own, tmp_path):
    own.add(nodes_of_every_kind(tmp_path))
    retriever = ClipSearchRetriever(own, similarity_top_k=3)
    asked = ["a text", "words", "a document"]
    together = await asyncio.gather(*map(retriever.aretrieve, asked))
    assert [[each.node_id for each in found] for found in together] == [
        [each.node_id for each in retriever.retrieve(one)] for one in asked
    ]
    assert {each.node_id for each in await retriever.atext_retrieve("words")} <= {"text", "index", "node", "document"}
    path = str(tmp_path / "red.png")
    assert (await retriever.aimage_to_image_retrieve(path))[0].score > 0.99
    assert all(isinstance(each.node, ImageNode | Node) for each in await retriever.atext_to_image_retrieve("red"))


def test_records_that_python_added_are_nodes(own):
    own.client.add(
        [{"id": "sku", "text": "a blue vase", "metadata": {"price": 3}}, {"id": "b", "image": colour("blue")}]
    )
    text, picture = own.get_nodes(["sku", "b"])
    assert (type(text), text.node_id, text.text, text.metadata) == (TextNode, "sku", "a blue vase", {"price": 3})
    assert (type(picture), picture.image_path, picture.metadata) == (ImageNode, None, {})


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"metadata": 3}', '{"metadata": {}}', "[" * 100_000])
def test_a_node_that_another_program_wrote_does_no_harm(own, content):
    own.client.add([{"id": "1", "text": "a", "metadata": {"_node_content": content, "price": 3}}])
    (node,) = own.get_nodes()
    assert (type(node), node.node_id, node.text, node.metadata) == (TextNode, "1", "a", {"price": 3})


def test_an_empty_store_finds_nothing(own, store):
    assert store.query(VectorStoreQuery([1.0] * DIM)).ids == []
    assert ClipSearchRetriever(own).retrieve("anything") == [] and own.get_nodes() == []


def test_a_store_is_made_again_of_its_description(store):
    embedded(store, 2)
    again = ClipSearchVectorStore.from_dict(store.to_dict())
    assert again.to_dict() == store.to_dict() and len(again.get_nodes()) == 2
    again.client.close()


@pytest.mark.usefixtures("manual")
def test_the_manual_shows_code_that_runs():
    names = {}
    for block in python_blocks("integrations.md", "LlamaIndex"):
        exec(block, names)
    assert len(names["by_picture"]) == 5 and names["by_both"] and names["pictures"]
    names["store"].client.close()
    names["retriever"].engine.close()
