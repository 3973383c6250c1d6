"""The page and the figure of what `mmcse bench` measured."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcse.benchmark.machine import was_busy
from mmcse.benchmark.timing import Quartiles, fit_power_law, ratio
from mmcse.errors import UserError
from mmcse.files import atomic_write
from mmcse.markdown import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, FIGURE = "README.md", "growth.svg"
_OURS, _PIECES = "ours, float32", "micro_batch"
Results = Mapping[str, Any]
"""As one of the JSON files holds them."""

_HEAD = """# Benchmarks

Written by `mmcse bench`; do not edit. Times are medians with quartiles in brackets. Both ways take turns in one
process, and a ratio is the median of the ratios of each round, with their quartiles. The literal way is MM-CSE written
as the paper reads (`tests/literal.py`, `tests/literal_loader.py`): a module per class, attention per direction and
modality with its maps in every layer, a file per video, label maps in loops, evaluation a video at a time. Both have
the same weights, and the same objective and optimiser. Ours keeps the memory that it frees, as `mmcse train` does
(`mmcse.allocator`), the literal way leaves the C library's allocator as it is; each step and pass that is timed follows
one that is not, so that each way finds memory and caches as it leaves them. Passes of inference that follow each other
share one region of mixed precision, in which a weight is cast once. Compiled networks are those of `compile=true`;
"kernels" are the operators in C++ of `kernels=true` (`mmcse.models.kernels`), without being compiled otherwise.

To repeat all of it on an idle machine:

```bash
mmcse bench --out benchmarks            # ratios and the floor
mmcse bench --growth --out benchmarks   # growth; needs the extra `plots` for its figure
mmcse bench --full-preset --out benchmarks   # 10,000 videos: memory, and the loader from the disk
mmcse bench --streaming --out benchmarks   # the loader on a bank larger than memory, which is written first
mmcse bench --jobs --out benchmarks     # two trainings at once, or one with two threads
```
"""


def write_page(folder: Path) -> Path:
    """Write the page, and the figure where there is one, from the JSON files of a folder.

    Raises:
        UserError: a file is not what `mmcse bench` writes.
    """
    files = {kind: folder / f"{kind}.json" for kind in _SECTIONS}
    missing = [kind.replace("_", " ") for kind, file in files.items() if not file.is_file()]
    blocks = [_HEAD, *([f"Not measured yet: {', '.join(missing)}."] if missing else [])]
    sections = [(file, _SECTIONS[kind]) for kind, file in files.items() if file.is_file()]
    sections += [(file, _kept) for file in sorted(folder.glob("ratios-*.json"))]
    for file, section in sections:
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
            title, *content = section(results)
            blocks += [title, _machine(results["machine"], results["quick"]), *content]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is not what `mmcse bench` writes: {error!r}. Measure it anew.") from error
    with atomic_write(folder / PAGE) as handle:
        handle.write(("\n\n".join(block.strip() for block in blocks) + "\n").encode())
    return folder / PAGE


def _kept(results: Results) -> Iterator[str]:
    """Ratios kept as ratios-DATE.json: of another machine, of an earlier state, or of some parts alone."""
    yield f"## Ratios kept from {results['machine']['time'][:10]}"
    yield "Of the code and the way of measuring of that day."
    rows = [[part["part"], slow, fast, times] for part, slow, fast, times in _compared(results)]
    yield markdown_table(["part", "slow", "fast", "ratio"], rows)


def _compared(results: Results) -> Iterator[tuple[Results, str, str, str]]:
    """Every part with the slow and the fast way of its pairs, and how many times faster the fast one is."""
    for part in results["comparisons"]:
        for slow, fast in part["pairs"]:
            yield part, slow, fast, _spread(ratio(part["costs"][slow], part["costs"][fast]), "{:.2f}x".format)


def summary(kind: str, results: Results) -> str:
    """What was measured, for a terminal."""
    return "\n\n".join(block.strip() for block in _SECTIONS[kind](results))


def _ratios(results: Results) -> Iterator[str]:
    yield "## Ratios"
    rows = []
    for part, slow, fast, times in _compared(results):
        show = _bytes if part["unit"] == "bytes" else _seconds
        takes = (_spread(Quartiles.of(part["costs"][way]), show) for way in (slow, fast))
        rows.append([part["part"], slow, fast, *takes, times])
    yield markdown_table(["part", "slow", "fast", "slow takes", "fast takes", "ratio"], rows)
    by_name = {part["part"]: part for part in results["comparisons"]}
    if start := by_name.get("start-up"):
        yield "Start-up of a process:"
        yield markdown_table(
            ["command", "takes"], [[n, _spread(Quartiles.of(t), _seconds)] for n, t in start["costs"].items()]
        )
    step, loader = by_name["training step"], by_name["loader"]
    per_video = [Quartiles.of(p["costs"][w]).median / p["videos"] for p, w in ((loader, "ours"), (step, _OURS))]
    yield (
        f"The loader serves {1 / per_video[0]:,.0f} videos a second: {100 * per_video[0] / per_video[1]:.2f} % of the "
        f"time of a training step in float32. Logits of both ways differ by {results['difference']:.1e} at most."
    )
    yield "## Floor of a training step"
    rates = results["rates"]
    yield (
        f"Measured on this machine: {rates['float32'] / 1e9:.0f} G multiply-adds a second in float32 and "
        f"{rates['bfloat16'] / 1e9:.0f} G in bfloat16 (products of square matrices of {results['scale']['matrix']} "
        f"rows, the better of MKL and oneDNN), {rates['copy'] / 1e9:.1f} GB a second read and written by a copy. The "
        "floor of a part is what its multiply-adds take at the one rate or what its bytes take at the other, whichever "
        "is more; a part can be below it where its tensors stay in the cache. `outside` is Python, and handing "
        "operations out. In kernels, softmax and the dropout of attention are among its products, and those count what "
        "the gradient computes anew; LGSF and ReLU with dropout are among what is elementwise."
    )
    for way, floor in results["floor"].items():
        yield _floor_table(way, floor, rates, Quartiles.of(step["costs"][way]).median)


def _floor_table(way: str, floor: Results, rates: Results, median: float) -> str:
    precision, rows, needed = floor["precision"], [], 0.0
    for part in floor["parts"]:
        least = max(part["multiply_adds"] / rates[precision], part["bytes"] / rates["copy"])
        needed += least
        gap = f"{part['seconds'] / least:.1f}x" if least else ""
        row = (
            f"{part['multiply_adds'] / 1e9:.2f}",
            _bytes(part["bytes"]),
            _seconds(least),
            _seconds(part["seconds"]),
            gap,
        )
        rows.append([part["part"], *row])
    rows.append(["outside", "", "", "", _seconds(floor["outside"]), ""])
    total = sum(part["multiply_adds"] for part in floor["parts"])
    share = total / median / rates[precision]
    return (
        f"{way[0].upper()}{way[1:]}: a step takes {_seconds(median)} and computes {total / 1e9:.1f} G multiply-adds, "
        f"{100 * share:.0f} % of the machine's rate; the floors of its parts add up to {_seconds(needed)}.\n\n"
        + markdown_table(["part", "multiply-adds (G)", "bytes", "floor", "profiled", "gap"], rows)
    )


_AXES = {"videos": "B", "num_segments": "T", "num_classes": "K", "num_layers": "L", "micro_batch": "videos of a piece"}


def _growth(results: Results) -> Iterator[str]:
    yield "## Growth"
    yield (
        "Exponents are fitted to medians by least squares of logarithms, with their standard errors; memory is what "
        "training steps need more than the process had before. All in float32, and a batch in pieces (`micro_batch`) "
        "only where it is they that grow."
    )
    rows, points = [], []
    for axis, grown in results["growth"].items():
        medians = [[Quartiles.of(times).median for times in grown[way]] for way in ("training", "inference")]
        fits = [fit_power_law(grown["sizes"], costs) for costs in (*medians, grown["memory"])]
        others = ", ".join(f"{_AXES[n]} {v}" for n, v in grown["others"].items() if n in _AXES and v and n != _PIECES)
        span = f"{grown['sizes'][0]} to {grown['sizes'][-1]}"
        rows.append([_AXES[axis], span, others, *(f"{fit.exponent:.2f} ± {fit.error:.2f}" for fit in fits)])
        for size, train, infer, memory in zip(grown["sizes"], *medians, grown["memory"], strict=True):
            points.append([_AXES[axis], str(size), _seconds(train), _seconds(infer), _bytes(memory)])
    head = ["what grows", "from", "others", "training", "inference", "memory"]
    yield markdown_table(head, rows)
    yield f"![Time and memory over sizes]({FIGURE})" if results.get("figure") else ""
    yield markdown_table(["what grows", "size", "training step", "inference", "memory of training"], points)
    yield (
        "Dropout acts on the attention weights, so training keeps them, (B T M, H, K, K) twice in both blocks of every "
        "layer: the part of the memory that grows with K squared, and that a smaller piece of a batch bounds. "
        f"At {results['maps']['example']} they are {_bytes(results['maps']['bytes'])}, in pieces of "
        f"{results['maps']['piece']} {_bytes(results['maps']['of_piece'])}. Inference has no tensor of that shape, "
        "and with `kernels=true` training has none either: the gradient computes the weights anew."
    )


def _full_preset(results: Results) -> Iterator[str]:
    full = results["full"]
    yield "## The full preset"
    yield (
        f"{full['videos']:,} training videos, a bank of {_bytes(full['bank_bytes'])} mapped from the disk. "
        f"{full['steps']} training steps: {_bytes(full['peak'])} of resident memory at most, of which "
        f"{_bytes(full['before'])} before the first. That is the whole process."
    )
    yield _epochs(full)
    yield (
        "Cold means that the system was asked to drop the bank from its cache before the epoch "
        "(posix_fadvise, DONTNEED); what the disk itself keeps is its own matter."
    )


def _epochs(measured: Results) -> str:
    rows = [
        [name, f"{measured['videos'] / seconds:,.0f}", _bytes(measured["read_bytes"] / seconds)]
        for name, seconds in measured["epochs"].items()
    ]
    return markdown_table(["an epoch of the loader", "videos a second", "bytes a second"], rows)


def _streaming(results: Results) -> Iterator[str]:
    measured = results["streaming"]
    yield "## A bank larger than memory"
    yield (
        f"{measured['videos']:,} training videos (those of the full preset, over and over) of "
        f"{_bytes(measured['read_bytes'])}, in an order by chance; the machine has "
        f"{_bytes(results['machine']['memory_bytes'])} of memory, of which the process that reads them took "
        f"{_bytes(measured['peak'])} at most."
    )
    yield _epochs(measured)


def _jobs(results: Results) -> Iterator[str]:
    yield "## Two trainings on two cores"
    costs = results["costs"]
    rows = [[way, _spread(Quartiles.of(times), _seconds)] for way, times in costs.items()]
    yield markdown_table(["two trainings of one epoch", "take"], rows)
    one, two = costs
    yield f"{one} takes {_spread(ratio(costs[one], costs[two]), '{:.2f}'.format)} times as long as {two}."


_SECTIONS = {"ratios": _ratios, "growth": _growth, "full_preset": _full_preset, "streaming": _streaming, "jobs": _jobs}
KINDS = tuple(_SECTIONS)


def growth_figure(growth: Results) -> "Figure":
    """Time and memory over what grows, both logarithmic, a panel an axis, with the fitted exponents.

    Raises:
        UserError: matplotlib is not installed.
    """
    from mmcse.figures.style import BLUE, GREEN, ORANGE, log_scale, new_figure, styled

    @styled
    def draw() -> "Figure":
        figure = new_figure(2.6 * len(growth), 2.8, title="MM-CSE: cost of a step, float32", kind="real")
        panels = figure.subplots(1, len(growth), squeeze=False)[0]
        for panel, (axis, grown) in zip(panels, growth.items(), strict=True):
            milliseconds = {w: [1e3 * Quartiles.of(t).median for t in grown[w]] for w in ("training", "inference")}
            series = {f"{w}, ms": costs for w, costs in milliseconds.items()}
            series["memory, MB"] = [count / 1e6 for count in grown["memory"]]
            for (label, costs), colour, marker in zip(series.items(), (BLUE, ORANGE, GREEN), "osD", strict=True):
                exponent = fit_power_law(grown["sizes"], costs).exponent
                panel.plot(grown["sizes"], costs, color=colour, marker=marker, label=f"{label}: {exponent:.2f}")
            panel.set_xscale("log", base=2)
            log_scale(panel)
            panel.set_xticks(grown["sizes"], [str(size) for size in grown["sizes"]])
            panel.set_xlabel(_AXES[axis])
            panel.grid()
            panel.set_ylabel("ms, MB")
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), title="exponent")
        return figure

    return draw()


def _machine(machine: Results, quick: bool) -> str:
    load = f"load {machine['load_at_start']:.2f} at the start and {machine['load_at_end']:.2f} at the end"
    software = machine["environment"]
    text = (
        f"Measured {machine['time']} on {machine['processor']}, {machine['cores']} cores, "
        f"{_bytes(machine['memory_bytes'])} of memory, {software['threads']} thread(s), PyTorch "
        f"{software['versions']['torch']}, Python {software['python']}; {load}."
    )
    text += " **The machine was busy: these numbers are not to be trusted.**" if was_busy(machine) else ""
    return text + (" **Tiny sizes (`--quick`): these numbers say only that it works.**" if quick else "")


def _spread(quartiles: Quartiles, show: Any) -> str:
    median, low, high = map(show, quartiles)
    return f"{median} ({low} to {high})"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _bytes(value: float) -> str:
    from mmcse.data.npy import size_text

    return size_text(round(value))
