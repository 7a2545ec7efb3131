"""Answer a question from captioned pictures: retrieve, build the prompt, ask a chat model.

    python examples/rag_captioned_pictures.py "Which picture has a circle?"
    python examples/rag_captioned_pictures.py "Who is on the beach?" --folder ~/Pictures

Without --folder, a few pictures with captions are drawn. A folder is indexed as `clipsearch index` does, with the
captions that it has. The prompt names the pictures and carries thumbnails of them, so any chat model that sees pictures
can take the place of the stand-in here, which makes the example run offline.

Needs: pip install 'clipsearch[langchain]'
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from PIL import Image, ImageDraw

import clipsearch
from clipsearch.integrations.langchain import ClipSearchRetriever, ClipSearchVectorStore

DRAWN = {
    "a red circle": ("red", "ellipse"),
    "a blue square": ("blue", "rectangle"),
    "a green circle": ("green", "ellipse"),
    "a yellow square": ("gold", "rectangle"),
}


def drawn(color: str, shape: str) -> Image.Image:
    """Draw a shape on white."""
    picture = Image.new("RGB", (128, 128), "white")
    getattr(ImageDraw.Draw(picture), shape)((24, 24, 104, 104), fill=color)
    return picture


def fill(engine: clipsearch.SearchEngine, folder: str | None) -> None:
    """Index a folder, or add pictures that are drawn here."""
    if folder:
        engine.index([folder])
    else:
        store = ClipSearchVectorStore(engine)
        pictures = [drawn(*how) for how in DRAWN.values()]
        store.add_images(
            pictures, ids=[text.replace(" ", "-") for text in DRAWN], captions=list(DRAWN), keep="thumbnail"
        )


def prompt(question: str, documents: list[Document], engine: clipsearch.SearchEngine) -> list:
    """Return the messages for a chat model: what was found, in words and as pictures, and the question."""
    parts: list = []
    for document in documents:
        caption = document.page_content or "(no caption)"
        parts.append({"type": "text", "text": f"[{document.id}] {caption}"})
        if document.metadata["modality"] == "image":
            data = base64.b64encode(engine.thumbnail(document.id)).decode()
            parts.append({"type": "image", "base64": data, "mime_type": "image/jpeg"})
    system = "Answer from these pictures and captions alone. Name the ids in square brackets that you used."
    return [SystemMessage(system), HumanMessage([*parts, {"type": "text", "text": question}])]


def shown(messages: list) -> list:
    """Print a prompt, pictures by their size."""
    for message in messages:
        for part in [message.content] if isinstance(message.content, str) else message.content:
            text = part if isinstance(part, str) else part.get("text") or f"<JPEG, {len(part['base64'])} characters>"
            print(f"{message.type}: {text}")
    return messages


def main() -> None:
    """Run the example."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("question")
    options.add_argument("--folder", help="pictures to index; a few are drawn if not given")
    options.add_argument("--model", default="auto", help="encoder of the library")
    given = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        clipsearch.open(Path(scratch) / "library", create=True, model=given.model) as engine,
    ):
        fill(engine, given.folder)
        retriever = ClipSearchRetriever(library=engine, k=3)
        model = FakeListChatModel(responses=["(the answer of a chat model)"])
        chain = (
            RunnableLambda(lambda question: prompt(question, retriever.invoke(question), engine))
            | RunnableLambda(shown)
            | model
            | StrOutputParser()
        )
        print("answer:", chain.invoke(given.question))


if __name__ == "__main__":
    main()
