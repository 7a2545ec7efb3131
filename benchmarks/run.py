"""Run benchmarks and write their tables into benchmarks/README.md: python benchmarks/run.py [CASE ...].

`tables` instead of a case only makes the tables, from the results that are there.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CASES = (
    "cold_query",
    "encoder_speed",
    "cpu_encode",
    "text_corpus",
    "indexing",
    "records",
    "export",
    "datasets",
    "full_text",
    "slopes",
    "gpu_encode",
    "launches",
    "decode",
    "decode_scaling",
    "resizing",
    "embedded",
    "large_pictures",
    "films",
    "serve",
    "deep_pages",
    "ann/threads",
    "ann/remedies",
    "ann/ladder",
    "ann/filters",
    "ann/lists",
    "ann/stages",
    "cold_rows",
    "ann/on_milvus",
)


def main() -> None:
    """Run the cases named, or all; then make every table again from the results kept."""
    cases = sys.argv[1:] or CASES
    for case in cases if cases != ["tables"] else ():
        print(f"== {case}", flush=True)
        subprocess.run([sys.executable, HERE / f"{case}.py"], check=True)
    page = HERE / "README.md"
    text = page.read_text()
    for path in sorted((HERE / "results").glob("*.json")):
        record = json.loads(path.read_text())
        text = put_table(text, record) if record["values"].get("rows") else text
    page.write_text(text)


def put_table(text: str, record: dict) -> str:
    """Replace what stands between the marks of a case by its table."""
    mark = f"<!-- {record['case']} -->"
    pattern = re.compile(f"{re.escape(mark)}.*?{re.escape(mark)}", re.DOTALL)
    return pattern.sub(lambda _: f"{mark}\n{table(record)}\n{mark}", text)


def table(record: dict) -> str:
    """Format the rows of a result, and where it was seen."""
    rows = record["values"]["rows"]
    names = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join("" if row[n] is None else f"{row[n]}" for n in names) + " |" for row in rows]
    machine, versions = record["machine"], record["versions"]
    seen = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"
    if record["values"].get("gpu"):
        seen = f"{record['values']['gpus']} x {record['values']['gpu']}, torch {versions['torch']}, {seen}"
    used = ", ".join(f"{name} {versions[name]}" for name in ("onnxruntime", "faiss-gpu", "numpy") if name in versions)
    lines.append(f"\nSeen on {seen}, {used}, at commit {record['commit']}.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
