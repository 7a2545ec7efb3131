"""Read the pickles of a state dict as data: a machine for the few opcodes that one uses, which can call nothing.

Protocol 2, as PyTorch before 1.6 wrote it (https://docs.python.org/3/library/pickletools.html names the opcodes). No
name is ever looked up: a global is a pair of words, and only what rebuilds a tensor is understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

_MARK = object()
_DICT = ("collections", "OrderedDict")
_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": _MARK}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_VALUES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a state dict. kind: the class of its storage, such as FloatStorage. key: names the storage.

    offset, strides: in items of the storage.
    """

    kind: str
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(stream: BinaryIO) -> Any:  # noqa: ANN401
    """Read one pickle: numbers, words, lists, dicts and StoredTensor. Raises ValueError for anything else."""
    import pickletools  # here, because a query has no use for it

    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name != "PROTO" and not _push(name, argument, stack):
            _combine(name, stack)
    raise ValueError("it ends too soon")


def _push(name: str, argument: Any, stack: list[Any]) -> bool:  # noqa: ANN401
    """Push what an opcode stands for by itself; False for an opcode that takes from the stack."""
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in ("EMPTY_DICT", "EMPTY_LIST"):
        stack.append({} if name == "EMPTY_DICT" else [])
    elif name == "GLOBAL":
        stack.append(tuple(argument.split(" ")))
    else:
        return False
    return True


def _combine(name: str, stack: list[Any]) -> None:
    if name in _TUPLES:
        items = _take(stack, len(stack) - _TUPLES[name])
        stack.append(tuple(items))
    elif name == "TUPLE":
        stack.append(tuple(_take_marked(stack)))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _take_marked(stack)
        stack[-1].extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _take(stack, len(stack) - 2) if name == "SETITEM" else _take_marked(stack)
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "BUILD":
        stack.pop()  # attributes of a dict: versions of the layers, which nothing here asks for
    elif name == "REDUCE":
        arguments = stack.pop()
        stack.append(_rebuild(stack.pop(), arguments))
    else:
        raise ValueError(f"{name} does not belong in a weight file")


def _take(stack: list[Any], start: int) -> list[Any]:
    items = stack[start:]
    del stack[start:]
    return items


def _take_marked(stack: list[Any]) -> list[Any]:
    start = len(stack) - 1
    while stack[start] is not _MARK:
        start -= 1
    items = _take(stack, start)
    return items[1:]


def _storage(pid: Any) -> tuple[str, str]:  # noqa: ANN401
    _, (module, kind), key, *_ = pid
    if module != "torch":
        raise ValueError(f"{module}.{kind} does not belong in a weight file")
    return kind, key


def _rebuild(what: Any, arguments: Any) -> Any:  # noqa: ANN401
    if what == _DICT and not arguments:
        return {}
    if what == _TENSOR:
        (kind, key), offset, shape, strides, *_ = arguments
        return StoredTensor(kind, key, offset, shape, strides)
    raise ValueError(f"{'.'.join(map(str, what))} does not belong in a weight file")
