"""What must not pass mypy --strict: each line that says `wrong` has an error, and no other line."""

import clipsearch
from clipsearch import Filter, Hit, Results, SearchEngine


def misuse(engine: SearchEngine) -> None:
    engine.search("a cat", k="ten")  # wrong
    engine.search("a cat", limit=3)  # wrong
    engine.search_batch(texts=[1, 2])  # wrong
    engine.serch("a cat")  # wrong
    Filter(min_width="wide")  # wrong
    clipsearch.no_such_name()  # wrong
    clipsearch.open(3)  # wrong
    engine.add(3)  # wrong
    clipsearch.Record(id=3)  # wrong


def first_path(answer: Results) -> int:
    return answer[0].path  # wrong


def as_list(answer: Results) -> list[Hit]:
    return answer  # wrong


async def misuse_async(engine: SearchEngine) -> str:
    await engine.asearch("a cat", k="ten")  # wrong
    await engine.asearch("a cat", limit=3)  # wrong
    return await engine.asearch("a cat")  # wrong
