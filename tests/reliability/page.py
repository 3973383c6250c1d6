"""Writes docs/RELIABILITY.md from the counts of the tests: `python tests/reliability/page.py [--check]`.

The counts are in evidence.json, which the tests themselves write:
`MMCSE_EVIDENCE=tests/reliability/evidence.json pytest -p no:xdist tests/reliability`.
"""

import ast
import json
import sys
from collections import Counter
from pathlib import Path

from mmcse.markdown import markdown_table

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "RELIABILITY.md"
EVIDENCE = HERE / "evidence.json"

SECTIONS = {
    "test_kills.py": "Killed runs",
    "test_soak.py": "A sweep under kills",
    "test_disk.py": "Full disks, locked folders, lost drives",
    "test_determinism.py": "The same seed, the same bits",
    "test_fuzz.py": "Damaged files",
    "test_security.py": "Files and configurations that mean harm",
    "test_edges.py": "Data at the edge",
    "test_formats.py": "Versions",
}
COLUMNS = {
    "faults": "faults injected",
    "runs": "runs under kills",
    "inputs": "inputs tried",
    "refused": "of them refused",
    "checked": "results compared",
}

HEAD = """\
# What has been tried against this suite

Written by `python tests/reliability/page.py` from the counts that the tests leave; do not edit. CI checks that it is
what they say. `make reliability` counts anew. Every row passed: no result was lost or changed, and nothing but the
suite's own one-line errors came out of a reader.

What is compared after a fault is everything a run leaves (weights, optimiser, schedule, bookkeeping of the best epoch,
curves, record, the list of files), bit by bit; but for times, and for one note of Lightning's that nothing reads.

Where bits are *not* promised: on a GPU (`trainer.deterministic=true` asks PyTorch for what it has), and between
different numbers of threads, versions of PyTorch, or kinds of processors: sums are then taken in another order.
"""


def page(evidence: dict[str, dict]) -> str:
    """The page, in Markdown."""
    counts, when = evidence["tests"], evidence["counted"]
    total = Counter()
    for row in counts.values():
        total.update(row)
    lines = [
        HEAD,
        f"Counted on {when['date']}, Python {when['python']}, PyTorch {when['torch']}.",
        "",
        _table([("**all**", *_cells(total))]),
        "",
    ]
    for file, title in SECTIONS.items():
        rows = {name: row for name, row in counts.items() if name.startswith(f"{file}::")}
        table = _table([(_words(name), *_cells(row)) for name, row in rows.items()])
        lines += [f"## {title}", "", f"`tests/reliability/{file}`", "", table, ""]
    return "\n".join(lines)


def tests_with_evidence() -> set[str]:
    """Every test that takes the fixture, as it is named in the counts."""
    return {
        f"{file.name}::{node.name}"
        for file in HERE.glob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and any(argument.arg == "evidence" for argument in node.args.args)
    }


def _words(name: str) -> str:
    return name.partition("::test_")[2].replace("_", " ")


def _cells(row: dict[str, int]) -> list[str]:
    return [f"{row[name]:,}" if row.get(name) else "" for name in COLUMNS]


def _table(rows: list[tuple[str, ...]]) -> str:
    return markdown_table(("", *COLUMNS.values()), rows)


if __name__ == "__main__":
    evidence = json.loads(EVIDENCE.read_text())
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page(evidence))
    elif PAGE.read_text() != page(evidence) or set(evidence["tests"]) != tests_with_evidence():
        sys.exit(f"{PAGE.name} or {EVIDENCE.name} is not what the tests say: run `make reliability`.")
