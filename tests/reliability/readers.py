"""Every reader of files that may come from anywhere, each as a function of bytes, and a good file for each."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from killable import narrow_bank

import tiny
from layout_files import write_layout
from mmcse.callbacks.card import CARD
from mmcse.checkpoints import load_checkpoint
from mmcse.data import FeatureBank, read_annotations
from mmcse.data.npy import map_array, read_array
from mmcse.data.segment_labels import read_segment_labels, write_segment_labels
from mmcse.errors import UserError
from mmcse.evaluate import read_checkpoint, rebuild
from mmcse.evaluation.predictions import save_predictions, score_predictions
from mmcse.models import MMCSE
from mmcse.models.checkpoint_files import export_reference, import_checkpoint, load_network, save_network
from mmcse.runs.collect import collect, read_results
from mmcse.train import train
from mmcse.video.encoders.clap import Projection
from mmcse.video.texts import EmbeddedTexts, TextEmbeddings

SIZES = {"audio_dim": 6, "visual_dim": 5, "motion_dim": 4, "num_classes": 3, "hidden_dim": 8, "class_dim": 4}
SIZES |= {"num_heads": 2, "num_layers": 1, "feedforward_dim": 8}


class Reader(NamedTuple):
    """A reader, and the bytes of a file that it reads without complaint."""

    example: bytes
    read: Callable[[bytes], Any]

    def survives(self, data: bytes) -> bool:
        """Read; False where the reader refused. Any error but the suite's own is one of the reader."""
        try:
            self.read(data)
        except UserError as error:
            message = str(error)
            assert message, "an empty message"
            assert "\n\n" not in message, message  # one paragraph, which may list what does not fit
            return False
        return True


def readers(folder: Path) -> dict[str, Reader]:
    """All readers by name; they work in a folder."""
    bank = narrow_bank(folder / "bank")
    run = train(tiny.config(bank, folder / "runs", "trainer.max_epochs=1")).folder
    labels = write_layout(folder / "layout").annotations
    truth = read_annotations(labels, "val")
    save_predictions(folder / "predictions.npz", truth.names, truth.true_audio, truth.true_visual.astype(np.float32))
    network = MMCSE(**SIZES)
    export_reference(network, folder / "theirs.pth")
    save_network(folder / "network", network, SIZES)
    collect([run], folder / "results")
    [results] = (folder / "results").glob("*.jsonl")

    def rebuilt(file: Path) -> None:
        rebuild(*read_checkpoint(file))

    def collected(file: Path) -> None:
        shutil.rmtree(folder / "again", ignore_errors=True)
        collect([file.parent], folder / "again")
        read_results(folder / "again")

    def scored(file: Path) -> None:
        score_predictions(file, labels, "val")

    def annotated(file: Path) -> None:
        read_annotations(labels, "val")

    def rebuilt_from(file: Path) -> None:
        torch.save(best | {CARD: json.loads(file.read_bytes())}, folder / "made_up.ckpt")
        rebuilt(folder / "made_up.ckpt")

    best = load_checkpoint(run / "checkpoints" / "best.ckpt")
    (folder / "card.json").write_text(json.dumps(best[CARD]))
    space = EmbeddedTexts(("a dog", "other"), torch.randn(2, 3))
    projection = Projection(*(torch.randn(shape) for shape in ((3, 5), (3,), (3, 3), (3,))))
    TextEmbeddings(space, space, projection, {"CLAP": "1234"}).write(folder / "texts.npz")
    ids, classes = ("a", "b"), ("Dog", "Cat")
    label, described = np.full((2, 3, 2), 0.5), {"ids": ids, "classes": classes, "made": {}}
    write_segment_labels(folder / "labels", label, label, **described)

    def labelled(file: Path) -> None:
        read_segment_labels(file.parent, ids, classes, num_segments=3)

    files = {
        "weak labels": (labels / "AVVP_val_pd.csv", annotated),
        "dense labels": (labels / "AVVP_eval_audio.csv", annotated),
        "array": (bank / "val" / "audio.npy", read_array),
        "mapped array": (bank / "val" / "weak.npy", map_array),
        "manifest": (bank / "manifest.json", lambda file: FeatureBank.open(file.parent)),
        "bank's ids": (bank / "test" / "ids.npy", lambda file: FeatureBank.open(file.parents[1])),
        "record of a run": (run / "result.json", collected),
        "results": (results, read_results),
        "predictions": (folder / "predictions.npz", scored),
        "texts": (folder / "texts.npz", TextEmbeddings.read),
        "segment labels": (folder / "labels" / "segment_visual.npy", labelled),
        "segment labels' description": (folder / "labels" / "segment_labels.json", labelled),
        "checkpoint": (run / "checkpoints" / "best.ckpt", rebuilt),
        "card of a checkpoint": (folder / "card.json", rebuilt_from),
        "resumed checkpoint": (run / "checkpoints" / "last.ckpt", load_checkpoint),
        "authors' checkpoint": (folder / "theirs.pth", lambda file: import_checkpoint(file, num_heads=2)),
        "network's config": (folder / "network" / "network.json", lambda file: load_network(file.parent)),
        "network's weights": (folder / "network" / "network.safetensors", lambda file: load_network(file.parent)),
    }
    return {name: _reader(*place) for name, place in files.items()}


def _reader(file: Path, read: Callable[[Path], Any]) -> Reader:
    example = file.read_bytes()

    def read_bytes(data: bytes) -> Any:
        file.write_bytes(data)
        try:
            return read(file)
        finally:
            file.write_bytes(example)

    return Reader(example, read_bytes)


def is_json(example: bytes) -> bool:
    """Whether a file is one JSON document."""
    try:
        return isinstance(json.loads(example), dict)
    except ValueError:
        return False
