"""The eleven numbers as text for a terminal."""

from collections.abc import Mapping

from mmcse.data.manifest import Kind
from mmcse.evaluation.fscores import LEVELS, SCORE_KEYS, SCORES

_HEADLINES: dict[Kind, str] = {
    "real": "real data",
    "simulated": "SIMULATED features: says nothing about LLP",
    "fixture": "FIXTURE, a few videos for tests: says nothing about LLP",
}


def score_table(scores: Mapping[str, float], *, kind: Kind, title: str) -> str:
    """Lay out the scores of one run.

    Args:
        scores: percentages as `parsing_scores` returns them, with `video/F1` where it is known.
        kind: what the data are; the headline says it.
        title: what was scored, for example method and split.

    Returns:
        Some lines of text without a newline at the end.
    """
    lines = [f"{title} · {_HEADLINES[kind]}", _row("", SCORES)]
    lines += [_row(level, [f"{scores[f'{level}/{score}']:.2f}" for score in SCORES]) for level in LEVELS]
    summary = [f"Avg {scores['Avg']:.2f}"]
    if "video/F1" in scores:
        summary.append(f"video-level F1 {scores['video/F1']:.2f}")
    return "\n".join((*lines, "  " + "   ".join(summary)))


def _row(head: str, cells: tuple[str, ...] | list[str]) -> str:
    return f"  {head:8}" + "".join(f"{cell:>8}" for cell in cells)


def score_rows(rows: Mapping[str, Mapping[str, float]], *, kind: Kind, title: str) -> str:
    """Lay out the scores of several predictions, a line each.

    Args:
        rows: percentages as `parsing_scores` returns them, by the name of what was scored.
        kind: what the data are; the headline says it.
        title: what they were scored on.

    Returns:
        Some lines of text without a newline at the end.
    """
    width = max(map(len, rows))
    names = [f"{level[0]}/{score}" for level in LEVELS for score in SCORES]
    lines = [f"{title} · {_HEADLINES[kind]}", "  " + " " * width + "".join(f"{n:>9}" for n in (*names, "Avg"))]
    lines += [f"  {n:{width}}" + "".join(f"{s[k]:9.2f}" for k in (*SCORE_KEYS, "Avg")) for n, s in rows.items()]
    return "\n".join((*lines, "  (s/ segment level, e/ event level)"))
