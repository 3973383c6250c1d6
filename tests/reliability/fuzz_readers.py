"""Coverage-guided fuzzing of every reader: `python tests/reliability/fuzz_readers.py [SECONDS] [READER ...]`.

Needs atheris (`pip install atheris`, Linux, Python 3.11 or 3.12). Each reader gets its share of the time, default 10
minutes. An input that a reader neither reads nor refuses stops the fuzzing, and is written to `crash-...`.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["mmcse"]):
    from readers import readers

DEFAULT_SECONDS = 600


def fuzz(folder: Path, name: str, seconds: float) -> None:
    """Fuzz one reader; does not return, because libFuzzer ends its process."""
    reader = readers(folder / "files")[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "example").write_bytes(reader.example)
    options = [
        f"-max_total_time={int(seconds)}",
        "-rss_limit_mb=4096",
        "-timeout=20",
        f"-max_len={4 * len(reader.example)}",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], reader.survives)
    atheris.Fuzz()


def main(seconds: float, names: list[str]) -> int:
    """Fuzz readers one after another, each in a process of its own; 1 if an input was neither read nor refused."""
    for name in names:
        clock = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            child = os.fork()
            if child == 0:
                fuzz(Path(folder), name, seconds / len(names))
                os._exit(0)
            _, status = os.waitpid(child, 0)
        print(f"{name}: {time.monotonic() - clock:.0f} s, {'failed' if status else 'nothing found'}", flush=True)
        if status:
            return 1
    return 0


if __name__ == "__main__":
    from test_fuzz import NAMES

    chosen = sys.argv[2:] or [name for name in NAMES if name != "card of a checkpoint"]
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_SECONDS, chosen))
