"""What this version writes, for later versions to read: `python tests/data_of_versions/make.py FOLDER` makes it.

A folder is made once, when a format changes, and never again: `test_formats.py` reads every one there is.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "reliability")]

from killable import narrow_bank  # noqa: E402

import tiny  # noqa: E402
from layout_files import write_layout  # noqa: E402
from mmcse.data import FeatureBank, read_annotations  # noqa: E402
from mmcse.evaluate import read_checkpoint, rebuild  # noqa: E402
from mmcse.evaluation.predictions import save_predictions  # noqa: E402
from mmcse.models.checkpoint_files import export_reference, save_network  # noqa: E402
from mmcse.runs.collect import collect  # noqa: E402
from mmcse.train import train  # noqa: E402


def make(folder: Path) -> None:
    """Write every kind of file; what is read back from them is in `expected.npz`."""
    folder.mkdir(parents=True)
    os.chdir(folder)  # paths in the files are relative to it
    bank = FeatureBank.open(narrow_bank(Path("bank")))
    run = train(tiny.config(bank.folder, Path("runs"), "data.batch_size=8"))
    (run.folder / "checkpoints" / "last.ckpt").unlink()
    record = json.loads((run.folder / "result.json").read_text())
    record["environment"]["platform"] = "removed"
    (run.folder / "result.json").write_text(json.dumps(record, indent=2))
    collect([run.folder], Path("results"))
    card, weights = read_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    network = rebuild(card, weights).eval()
    arguments = {name: value for name, value in card["model"].items() if name != "_target_"}
    save_network("network", network, arguments, {"file": "made by make.py"})
    export_reference(network, "theirs.pth")
    labels = write_layout(Path("layout")).annotations
    truth = read_annotations(labels, "val")
    save_predictions("predictions.npz", truth.names, truth.true_audio, truth.true_visual)
    batch = bank.split("test").gather(np.arange(len(bank.split("test"))))
    out = network(batch.audio, batch.visual, batch.motion)
    np.savez("expected.npz", segment_logits=out.segment_logits.detach().numpy(), digest=bank.digest)
    shutil.rmtree("layout/features")
    for file in [*Path.cwd().rglob(".*.lock"), *Path.cwd().rglob(".lock")]:
        file.unlink()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
