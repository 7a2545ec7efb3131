"""Plain questions, asked of the daemon before anything is imported that reads a command line.

`clipsearch query WORDS`, where nothing sets anything: no option, no variable, no file of settings. Importing what reads
those takes twice as long as the answer. What is asked and printed is the same to the byte as without this short cut.
"""

from __future__ import annotations

import os
import sys

from clipsearch.cli.streams import to_stdout

_NOT_PLAIN = frozenset(':/\\.~"()')
"""What may make a word a term that is no text, beside a sign or the dash of an option at its beginning."""


def is_answered(arguments: list[str]) -> bool:
    """Answer a plain question, if this is one and there is a daemon that takes it.

    Raises OSError where stdout cannot be written.
    """
    command, words = arguments[:1], arguments[1:]
    if command != ["query"] or not "".join(words).strip() or not all(map(_is_plain, words)):
        return False
    if _is_set() or sys.platform == "win32":
        return False
    from clipsearch.cli.daemon.protocol import ask
    from clipsearch.locations import cache_dir, config_file, library_path

    try:
        if config_file().is_file():
            return False
        library = library_path(os.environ.get("CLIPSEARCH_LIBRARY"))
        reply = ask(_question(" ".join(words), str(cache_dir()), str(library)))
        if not reply or "out" not in reply:
            return False
        notes, out = map(str, reply["notes"]), reply["out"].encode("latin-1")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    _print(list(notes), out)
    return True


def _is_plain(word: str) -> bool:
    return not word.startswith(("-", "+")) and not _NOT_PLAIN & set(word)


def _is_set() -> bool:
    """Tell whether a variable sets anything but what is looked at here as well."""
    ours = {name for name in os.environ if name.startswith("CLIPSEARCH_")}
    return bool(ours - {"CLIPSEARCH_LIBRARY", "CLIPSEARCH_CACHE"})


def _question(text: str, cache: str, library: str) -> dict[str, object]:
    """Return what `client` sends for a text, with all options and settings at their defaults.

    But for `suggest` and `understand`, as the command line sets them.
    """
    from clipsearch import __version__
    from clipsearch.locations import is_hub_offline
    from clipsearch.query.understanding.gate import may_mean_more

    options = {"suggest": True, **({"understand": True} if may_mean_more(text) else {})}
    asked = {"text": text, "options": options, "shape": "table", "folder": os.getcwd()}
    what = {"do": "query", "version": __version__, "cache": cache, "library": library}
    return {**what, "settings": {"offline": is_hub_offline()}, "asked": asked, "picture": None}


def _print(notes: list[str], out: bytes) -> None:
    for line in notes:
        if sys.stderr is not None:
            try:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except OSError:  # a remark that nobody can read must not stop the work
                break
    to_stdout(out)
