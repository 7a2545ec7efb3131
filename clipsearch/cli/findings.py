"""How findings about a library are printed, and the exit code that they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli.options import write_bytes
from clipsearch.errors import StoreCorruptError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from clipsearch.store.findings import Finding


def report(context: click.Context, folder: Path, findings: Sequence[Finding], as_json: bool) -> None:
    """Print findings, and leave with the exit code of damage where one is a problem."""
    from clipsearch import present
    from clipsearch.store.findings import Severity

    payload = to_payload(folder, findings)
    write_bytes(present.to_json(payload) if as_json else _to_table(payload).encode("utf-8", "backslashreplace"))
    if payload["severity"] == Severity.PROBLEM:
        context.exit(StoreCorruptError.exit_code)


def to_payload(folder: Path, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the stable JSON form: library, the worst severity, and the findings in order."""
    from clipsearch.store.findings import Severity

    worst = max((finding.severity for finding in findings), key=list(Severity).index, default=Severity.OK)
    listed = [
        {
            "check": finding.check,
            "modality": finding.modality and str(finding.modality),
            "severity": str(finding.severity),
            "found": finding.found,
            "todo": finding.todo,
            "values": dict(finding.values),
        }
        for finding in findings
    ]
    return {"library": str(folder), "severity": str(worst), "findings": listed}


def _to_table(payload: Mapping[str, Any]) -> str:
    """Return one line a finding: severity, modality, check, what was found; and what to do below it."""
    from clipsearch.store.findings import counted

    lines = []
    for finding in payload["findings"]:
        where = finding["modality"] or "all"
        lines.append(f"{finding['severity']:<8} {where:<6} {finding['check']:<13} {printable(finding['found'])}")
        if finding["todo"]:
            lines.append(f"{'':<29} To do: {printable(finding['todo'])}")
    severities = [finding["severity"] for finding in payload["findings"]]
    counts = [counted(n, name) for name in ("problem", "warning", "note") if (n := severities.count(name))]
    counts.append(f"{severities.count('ok')} ok")
    lines.append(f"{printable(payload['library'])}: {', '.join(counts)}")
    return "\n".join(lines) + "\n"
