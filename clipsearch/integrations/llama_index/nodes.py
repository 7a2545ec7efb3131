"""Nodes of LlamaIndex as records of a library, and items of a library as nodes."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    TextNode,
)

from clipsearch import Hit, InvalidInputError, Item, Modality, Record
from clipsearch.integrations.metadata import REST, Plain, names_a_place, pack, unpack

REF_DOC_ID = "ref_doc_id"
"""The name of the id of the document that a node is a part of."""

_CONTENT = "_node_content"
"""The name of the JSON of a node: all but its text, its picture and its embedding."""

_BYTES = "_node_bytes"
"""The name of whether a node held the bytes of a picture."""

_PRIVATE = {REF_DOC_ID, _CONTENT, _BYTES, REST}
_TYPES = {each.class_name(): each for each in (Node, TextNode, ImageNode, IndexNode, Document, ImageDocument)}


def to_record(node: BaseNode) -> Record:
    """Return the record that a node becomes: a picture if it has one, with its text as the caption, else a text.

    Its embedding is that of the picture then, else that of the text.

    Raises:
        InvalidInputError: It has neither text, picture nor embedding, or something that JSON cannot hold.
    """
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    words = text if text.strip() else None
    image = _picture(node)
    if image is None and words is None and node.embedding is None:
        raise InvalidInputError(f"Node {node.node_id} has no text, picture or embedding by which it could be found.")
    is_picture = image is not None or isinstance(node, ImageNode)
    return Record(
        node.node_id,
        image=image,
        text=None if is_picture else words,
        caption=words if is_picture else None,
        metadata=_to_metadata(node, words),
        vector=node.embedding,
        modality=Modality.IMAGE if is_picture else Modality.TEXT,
    )


def to_node(item: Item, *, hit: Hit | None = None, picture: bytes | None = None) -> BaseNode:
    """Return the node of an item.

    Args:
        item: A record that was made of a node, any other record, or a file.
        hit: How it was found; the text of a file is the passage that matched.
        picture: What the library keeps of its picture.
    """
    text = item.text or item.caption
    if (node := _from_json(item.metadata, text, picture)) is not None:
        return node
    metadata = {name: value for name, value in unpack(item.metadata).items() if name not in _PRIVATE}
    if names_a_place(item.path):
        metadata.setdefault("file_path", item.path)
    if text is None and hit and hit.passage:
        text = hit.passage.text
    if item.modality is not Modality.IMAGE:
        return TextNode(id_=item.key, text=text or "", metadata=metadata)
    return _image_node(item, text, metadata, picture)


def had_bytes(item: Item) -> bool:
    """Tell whether an item was written as a node that held the bytes of a picture."""
    return item.metadata.get(_BYTES) is True


def _image_node(item: Item, text: str | None, metadata: dict[str, Any], picture: bytes | None) -> ImageNode:
    place = item.path
    is_url = place.startswith(("http://", "https://"))
    return ImageNode(
        id_=item.key,
        text=text or "",
        metadata=metadata,
        image_path=None if is_url or place.startswith("record:") else place,
        image_url=place if is_url else None,
        image=_base64(picture),
    )


def _to_metadata(node: BaseNode, words: str | None) -> dict[str, Plain]:
    try:
        content = node.model_dump(mode="json")
        metadata = pack(content["metadata"])
        for name in ("embedding", "text_embedding", "image"):
            content.pop(name, None)
        if words is not None:
            _set_text(content, None)
        metadata[_CONTENT] = json.dumps(content, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(f"Node {node.node_id} cannot be written as JSON ({error}).") from error
    metadata.pop(REST, None)  # which the content has
    if node.ref_doc_id is not None:
        metadata[REF_DOC_ID] = node.ref_doc_id
    if _bytes(node):
        metadata[_BYTES] = True
    return metadata


def _from_json(metadata: Mapping[str, Plain], text: str | None, picture: bytes | None) -> BaseNode | None:
    """Return the node that was written; None if the metadata has none, or one that this module did not write."""
    try:
        found = json.loads(str(metadata[_CONTENT]))
        found["metadata"] = _current(found["metadata"], metadata)
        if text is not None:
            _set_text(found, text)
        if picture is not None and "image_resource" in found:
            found["image_resource"]["data"] = _base64(picture)
        elif picture is not None:
            found["image"] = _base64(picture)
        return _TYPES.get(found["class_name"], TextNode).from_dict(found)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _current(before: Mapping[str, Any], stored: Mapping[str, Plain]) -> dict[str, Any]:
    """Return the metadata of a node in its order, with what was changed in the library since."""
    flat = pack(before).keys() - _PRIVATE
    new = {name: value for name, value in stored.items() if name not in before and name not in _PRIVATE}
    kept = {name: value for name, value in before.items() if name not in flat or name in stored}
    return {**{name: stored[name] if name in flat else value for name, value in kept.items()}, **new}


def _set_text(content: dict[str, Any], text: str | None) -> None:
    """Put a text into the fields of a node, or take it out."""
    if "text_resource" in content:
        content.pop("text", None)
        content["text_resource"]["text"] = text
    else:
        content["text"] = text or ""


def _picture(node: BaseNode) -> bytes | str | None:
    """Return the picture of a node; not its URL where an embedding makes it needless to fetch that."""
    if data := _bytes(node):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise InvalidInputError(f"The picture of node {node.node_id} is not base64 ({error}).") from error
    path: object = None
    url: object = None
    if isinstance(node, ImageNode):
        path, url = node.image_path, node.image_url
    elif isinstance(node, Node) and node.image_resource is not None:
        path, url = node.image_resource.path, node.image_resource.url
    place = path or (url if node.embedding is None else None)
    return str(place) if place else None


def _bytes(node: BaseNode) -> str | bytes | None:
    if isinstance(node, ImageNode):
        return node.image
    return node.image_resource.data if isinstance(node, Node) and node.image_resource else None


def _base64(picture: bytes | None) -> str | None:
    return None if picture is None else base64.b64encode(picture).decode("ascii")
