"""Findings: what an examination of a library says, and how an error becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from clipsearch.errors import ClipSearchError, SchemaVersionError, StoreCorruptError
from clipsearch.store.database import mapped_errors
from clipsearch.store.refusals import REPAIR
from clipsearch.types import Modality

RESTORE = REPAIR
VERIFY = "See what is damaged: clipsearch verify"
BUILD, INDEX = "clipsearch build", "clipsearch index"


class Severity(StrEnum):
    """How bad a finding is. A problem is damaged data; a warning costs answers or time; a note is good to know."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    found: the fact, with its figures. todo: a command or what else helps; empty where nothing is to be done.
    modality: None where it concerns the whole library. values: the figures, as JSON values.
    """

    check: str
    severity: Severity
    found: str
    todo: str = ""
    modality: Modality | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def counted(number: int, noun: str) -> str:
    """Say how many there are of something."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def guarded(check: str, run: Callable[[], Iterable[Finding]], modality: Modality | None = None) -> list[Finding]:
    """Return what a check finds; what it stumbles over is a finding too, and the last one."""
    found: list[Finding] = []
    try:
        with mapped_errors():
            for finding in run():  # one by one: what comes before an error is kept
                found.append(finding)
    except (StoreCorruptError, SchemaVersionError) as error:
        found.append(Finding(check, Severity.PROBLEM, str(error), RESTORE, modality))
    except (ClipSearchError, OSError) as error:
        found.append(Finding(check, Severity.WARNING, f"This could not be examined: {error}", "Try again.", modality))
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, MemoryError) as error:
        what = f"The catalog holds invalid values ({type(error).__name__}: {error})."
        found.append(Finding(check, Severity.PROBLEM, what, RESTORE, modality))
    return found
