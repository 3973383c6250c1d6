"""Tables of results as text, Markdown, LaTeX and CSV. The same results give the same bytes."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence

from mmcse.data.manifest import Kind
from mmcse.runs.statistics import Summary
from mmcse.runs.tables import Cell, Line, ResultTable

Grid = list[list[str]]
"""Rows of cells; the first row is the head."""

HEADLINES: Mapping[Kind, str] = {
    "real": "real data",
    "simulated": "SIMULATED features: says nothing about LLP, and is not to be held against the paper's numbers",
    "fixture": "FIXTURE, a few videos for tests: says nothing about LLP",
}


def render_text(tables: Sequence[ResultTable]) -> str:
    """For a terminal."""
    return "\n".join(
        _blocks(tables, lambda title: f"{title}\n{'=' * len(title)}", lambda grid: "\n".join(_aligned(grid, "  ")))
    )


def render_markdown(tables: Sequence[ResultTable]) -> str:
    """For a page; tables in the form GitHub reads."""

    def table(grid: Grid) -> str:
        head, *rows = _aligned(grid, " | ")
        return "\n".join(f"| {line} |" for line in (head, _rule(grid), *rows))

    return "\n".join(_blocks(tables, lambda title: f"### {title}", table))


def render_latex(tables: Sequence[ResultTable]) -> str:
    """For a paper, in the original's columns: check marks, then scores; needs the packages booktabs and amssymb."""
    return "\n".join(_latex(table) for table in tables)


def render_csv(tables: Sequence[ResultTable]) -> str:
    """For other programs: a line for every cell, in full precision."""
    ours = "paper", *Summary._fields, "p", "verdict"
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    compared = *(f"change_{field}" for field in Summary._fields), "change_p", "change_verdict"
    place = "table", "kind", "data", "settings"
    writer.writerow((*place, "row", "column", *ours, *compared, "worlds", "seeds", "runs"))
    for table in tables:
        place = table.paper.number, table.kind, table.data, describe_settings(table)
        for line in table.lines:
            for cell in line.cells.values():
                ours = cell.paper, *_fields(cell.ours), cell.p, cell.verdict
                compared = *_fields(cell.change), cell.change_p, cell.change_verdict
                writer.writerow(
                    (*place, line.row.name, cell.column, *ours, *compared, line.worlds, line.seeds, line.runs)
                )
    return out.getvalue()


FORMATS: Mapping[str, Callable[[Sequence[ResultTable]], str]] = {
    "text": render_text,
    "markdown": render_markdown,
    "latex": render_latex,
    "csv": render_csv,
}


def describe_settings(table: ResultTable) -> str:
    """What differs from the experiments as shipped, in the form of overrides."""
    return " ".join(f"{key}={value}" for key, value in table.settings.items())


def _fields(summary: Summary | None) -> tuple[float | None, ...]:
    """Mean, n, standard deviation and interval; as many times nothing."""
    return (None,) * len(Summary._fields) if summary is None else tuple(summary)


def _blocks(tables: Iterable[ResultTable], title: Callable[[str], str], grid: Callable[[Grid], str]) -> list[str]:
    blocks: list[str] = []
    for table in tables:
        blocks += [title(f"{table.paper.heading} ({table.kind})"), ""]
        blocks += [f"{HEADLINES[table.kind]}. Data: {table.data}."]
        blocks += [f"Differs from the paper's recipe in: {describe_settings(table)}."] if table.settings else []
        blocks += [*table.notes, "", grid(score_grid(table)), ""]
        if any(line.runs for line in table.lines):
            blocks += [f"{compared_column(table)}, compared:", "", grid(comparison_grid(table)), ""]
    return blocks


def compared_column(table: ResultTable) -> str:
    """The column on which rows are compared outside CSV: the last one."""
    return table.paper.columns[-1]


def score_grid(table: ResultTable) -> Grid:
    """Every score as mean ± standard deviation, below the paper's where there are any to stand beside."""
    real = _beside_paper(table)
    grid = [["row", *([""] if real else []), *table.paper.columns, "runs"]]
    for line in table.lines:
        label, cells = _label(table, line), list(line.cells.values())
        if real and line.row.values:
            grid.append([label, "paper", *(_number(cell.paper, ".1f") for cell in cells), ""])
        ours = [_value(cell) for cell in cells] if line.runs else [""] * (len(cells) - 1) + [cells[-1].verdict or ""]
        grid.append([*(["" if line.row.values else label, "ours"] if real else [label]), *ours, _runs(line)])
    return grid


def comparison_grid(table: ResultTable) -> Grid:
    """On the table's last column: interval, difference from the paper where data are real, and from the reference."""
    real, reference = _beside_paper(table), table.paper.reference
    head = ["row", "mean", "95 % interval"]
    head += ["paper", "difference", "p", "verdict"] if real else []
    head += [f"from {reference}", "95 % interval", "p (Holm)", "verdict"] if reference else []
    grid = [head]
    for line in table.lines:
        if not line.runs:
            continue
        cell = line.cells[compared_column(table)]
        row = [_label(table, line), _number(cell.ours and cell.ours.mean), _interval(cell.ours)]
        if real:
            row += [
                _number(cell.paper),
                _number(None if cell.ours is None or cell.paper is None else cell.ours.mean - cell.paper, "+.2f"),
                _number(cell.p, ".3f"),
                cell.verdict or "",
            ]
        if reference:
            change = cell.change
            row += [
                _number(change and change.mean, "+.2f"),
                _interval(change),
                _number(cell.change_p, ".3f"),
                cell.change_verdict or "",
            ]
        grid.append(row)
    return grid


def _beside_paper(table: ResultTable) -> bool:
    return table.kind == "real" and any(line.row.values for line in table.lines)


def _label(table: ResultTable, line: Line) -> str:
    marks = [name for name, checked in zip(table.paper.check, line.row.check, strict=True) if checked]
    return f"{line.row.label}: {' + '.join(marks) or 'none'}" if table.paper.check else line.row.label


def _value(cell: Cell) -> str:
    if cell.ours is None:
        return ""
    return f"{cell.ours.mean:.1f}" + (f" ± {cell.ours.std:.1f}" if cell.ours.std is not None else "")


def _runs(line: Line) -> str:
    if line.worlds < 2:
        return str(line.runs or "")
    if line.runs != line.worlds * line.seeds:
        return f"{line.runs} in {line.worlds} worlds"
    return f"{line.worlds} worlds x {line.seeds} seed{'s' if line.seeds > 1 else ''}"


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def _interval(summary: Summary | None) -> str:
    if summary is None or summary.low is None:
        return ""
    return f"{summary.low:.2f} to {summary.high:.2f}"


def _widths(grid: Grid) -> list[int]:
    return [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]


def _aligned(grid: Grid, gap: str) -> list[str]:
    widths = _widths(grid)
    lines = [gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in grid]
    return [line.rstrip() if gap.isspace() else line for line in lines]


def _rule(grid: Grid) -> str:
    return " | ".join("-" * max(3, width) for width in _widths(grid))


_TEX = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#"}


def _latex(table: ResultTable) -> str:
    columns, check = table.paper.columns, table.paper.check
    layout = f"l{'c' * len(check)}{'c' * len(columns)}"
    heads = [column.rpartition("/")[2] for column in columns]
    lines = [f"% Table {table.paper.number}, {HEADLINES[table.kind]}. {table.data} {describe_settings(table)}".rstrip()]
    lines += [rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
    if any(column.startswith("segment/") for column in columns):
        first = 2 + len(check)
        rules = [rf"\cmidrule(lr){{{start}-{start + 4}}}" for start in (first, first + 5)]
        levels = r"\multicolumn{5}{c}{Segment-level} & \multicolumn{5}{c}{Event-level} & \\"
        lines += [" &" * (first - 1) + f" {levels}", "".join(rules)]
    lines += [" & ".join(_tex(word) for word in ("Row", *check, *heads)) + r" \\", r"\midrule"]
    for line in table.lines:
        marks = [r"\checkmark" if checked else "" for checked in line.row.check]
        if not line.runs:
            words = next(iter(line.cells.values())).verdict or ""
            values = [rf"\multicolumn{{{len(columns)}}}{{c}}{{{_tex(words)}}}"]
        else:
            values = [_tex_value(cell.ours) for cell in line.cells.values()]
        lines.append(" & ".join((_tex(line.row.label), *marks, *values)) + r" \\")
    return "\n".join((*lines, r"\bottomrule", r"\end{tabular}", ""))


def _tex_value(summary: Summary | None) -> str:
    if summary is None:
        return "--"
    return f"{summary.mean:.1f}" + (rf"\,$\pm$\,{summary.std:.1f}" if summary.std is not None else "")


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
