"""Loading and evaluation written the way they read: a file per video, loops over segments and classes.

What MM-CSE's loader and LLP's protocol say, without a thought on speed: what `mmcse bench` compares with.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from literal import LiteralMMCSE
from mmcse.data.bank import BankSplit

FEATURES = ("audio", "visual", "motion")
LABELS = ("pseudo_audio", "pseudo_visual", "true_audio", "true_visual")


def write_video_files(split: BankSplit, folder: Path) -> None:
    """A file for every video and array, and a table with the labels of all videos."""
    for name in (*FEATURES, *LABELS):
        (folder / name).mkdir(parents=True)
        for video, array in zip(split.ids, split.arrays[name], strict=True):
            np.save(folder / name / f"{video}.npy", array)
    lines = [
        f"{v}\t{','.join(map(str, np.flatnonzero(w)))}" for v, w in zip(split.ids, split.arrays["weak"], strict=True)
    ]
    (folder / "weak.csv").write_text("\n".join(lines))


class LiteralDataset(Dataset[dict[str, Tensor]]):
    """Videos one by one."""

    def __init__(self, folder: Path, num_classes: int, maps: bool = True) -> None:
        self.folder, self.num_classes, self.maps = folder, num_classes, maps
        self.rows = [line.split("\t") for line in (folder / "weak.csv").read_text().splitlines()]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        video, events = self.rows[index]
        arrays = {name: np.load(self.folder / name / f"{video}.npy") for name in (*FEATURES, *LABELS)}
        weak = np.zeros(self.num_classes)
        for event in events.split(","):
            if event:
                weak[int(event)] = 1
        arrays["weak"] = weak
        if self.maps:
            audio, visual = arrays["pseudo_audio"], arrays["pseudo_visual"]
            pairs = {"aa": (audio, audio), "vv": (visual, visual), "av": (audio, visual), "va": (visual, audio)}
            arrays |= {f"map_{name}": self.cooccurrence(*pair) for name, pair in pairs.items()}
        return {name: torch.from_numpy(array).float() for name, array in arrays.items()}

    def cooccurrence(self, query: np.ndarray, key: np.ndarray) -> np.ndarray:
        """1 where the two classes occur together in a segment, (T, K, K)."""
        together = np.zeros((len(query), self.num_classes, self.num_classes))
        for t in range(len(query)):
            for i in range(self.num_classes):
                for j in range(self.num_classes):
                    if query[t, i] and key[t, j]:
                        together[t, i, j] = 1
        return together


def literal_loader(dataset: LiteralDataset, batch_size: int) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(dataset, batch_size=batch_size)


@torch.no_grad()
def literal_evaluation(network: LiteralMMCSE, dataset: LiteralDataset) -> np.ndarray:
    """Parse and score videos one at a time; the mean of their ten scores in percent."""
    network.eval()
    scores = []
    for video in literal_loader(dataset, 1):
        out = network(video["audio"], video["visual"], video["motion"])
        scores.append(
            literal_video_scores(*literal_decode(out), *(video[name][0].double().numpy() for name in LABELS[2:]))
        )
    return 100 * np.mean(scores, axis=0)


def literal_decode(out) -> tuple[np.ndarray, np.ndarray]:
    """Decisions (T, K) on audio and visual of a batch of one: MM-CSE gates audio by the video, visual by itself."""
    prob = out.segment_prob[0].numpy()
    present = np.zeros(prob.shape)
    for m, gate in enumerate((out.video_prob[0], out.visual_prob[0])):
        for t in range(prob.shape[0]):
            for k in range(prob.shape[2]):
                if prob[t, m, k] >= 0.5 and gate[k] >= 0.5:
                    present[t, m, k] = 1
    return present[:, 0], present[:, 1]


def literal_scores(*arrays: np.ndarray) -> np.ndarray:
    """The ten mean scores in percent of arrays (N, T, K): predicted audio and visual, true audio and visual."""
    return 100 * np.mean([literal_video_scores(*video) for video in zip(*arrays, strict=True)], axis=0)


def literal_video_scores(pred_audio, pred_visual, true_audio, true_visual) -> list[float]:
    """The ten scores of a video; arguments are (T, K) arrays of zeros and ones."""
    result = []
    for count in (segment_counts, event_counts):
        audio = [count(pred_audio[:, k], true_audio[:, k]) for k in range(pred_audio.shape[1])]
        visual = [count(pred_visual[:, k], true_visual[:, k]) for k in range(pred_audio.shape[1])]
        both_pred, both_true = pred_audio * pred_visual, true_audio * true_visual
        both = [count(both_pred[:, k], both_true[:, k]) for k in range(pred_audio.shape[1])]
        a, v, av = mean_f_score(audio), mean_f_score(visual), mean_f_score(both)
        added = [np.add(x, y) for x, y in zip(audio, visual, strict=True)]
        result += [a, v, av, (a + v + av) / 3, mean_f_score(added)]
    return result


def segment_counts(pred: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """True positives, false positives, false negatives of a class."""
    return np.sum(pred * true), np.sum(pred * (1 - true)), np.sum((1 - pred) * true)


def event_counts(pred: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """The same of events, which match where they overlap by half of their union."""
    predicted, actual = events(pred), events(true)
    tp = sum(any(overlap(p, t) >= 0.5 for t in actual) for p in predicted)
    missed = sum(not any(overlap(p, t) >= 0.5 for p in predicted) for t in actual)
    return tp, len(predicted) - tp, missed


def events(row: np.ndarray) -> list[np.ndarray]:
    """Runs of positive segments, each as a row of zeros and ones."""
    found, start = [], None
    for t in range(len(row) + 1):
        positive = t < len(row) and row[t] != 0
        if positive and start is None:
            start = t
        if not positive and start is not None:
            event = np.zeros(len(row))
            event[start:t] = 1
            found.append(event)
            start = None
    return found


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return np.sum(first * second) / np.sum(np.maximum(first, second))


def mean_f_score(counts) -> float:
    """Mean F-score of the classes that were predicted or are there; 1 where there are none."""
    scores = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in counts if tp + fp + fn]
    return float(np.mean(scores)) if scores else 1.0
