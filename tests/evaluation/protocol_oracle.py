"""The evaluation protocol of LLP written word by word, slowly, with loops: the judge of the fast implementation."""

from fractions import Fraction


def oracle_scores(pred_audio, pred_visual, true_audio, true_visual):
    """The ten scores in percent, in the order of the protocol, then Avg; arrays are (N, T, K) booleans."""
    videos = [
        video_scores(*(one.tolist() for one in video))
        for video in zip(pred_audio, pred_visual, true_audio, true_visual, strict=True)
    ]
    means = [100 * sum(column) / len(videos) for column in zip(*videos, strict=True)]
    return [float(mean) for mean in (*means, sum(means) / 10)]


def video_scores(pred_audio, pred_visual, true_audio, true_visual):
    """The ten scores of one video as fractions; arguments are lists of T lists of K booleans."""
    both_pred = product(pred_audio, pred_visual)
    both_true = product(true_audio, true_visual)
    result = []
    for count in (count_segments, count_events):
        audio = count(pred_audio, true_audio)
        visual = count(pred_visual, true_visual)
        a, v, av = mean_f(audio), mean_f(visual), mean_f(count(both_pred, both_true))
        added = [tuple(x + y for x, y in zip(a_k, v_k, strict=True)) for a_k, v_k in zip(audio, visual, strict=True)]
        result += [a, v, av, (a + v + av) / 3, mean_f(added)]
    return result


def product(first, second):
    return [[x and y for x, y in zip(row, other, strict=True)] for row, other in zip(first, second, strict=True)]


def count_segments(pred, true):
    counts = []
    for k in range(len(pred[0])):
        tp = fp = fn = 0
        for t in range(len(pred)):
            if pred[t][k] and true[t][k]:
                tp += 1
            elif pred[t][k]:
                fp += 1
            elif true[t][k]:
                fn += 1
        counts.append((tp, fp, fn))
    return counts


def count_events(pred, true):
    counts = []
    for k in range(len(pred[0])):
        predicted = runs([row[k] for row in pred])
        actual = runs([row[k] for row in true])
        tp = fp = fn = 0
        for p in predicted:
            if any(iou(p, t) >= Fraction(1, 2) for t in actual):
                tp += 1
            else:
                fp += 1
        for t in actual:
            if not any(iou(p, t) >= Fraction(1, 2) for p in predicted):
                fn += 1
        counts.append((tp, fp, fn))
    return counts


def runs(row):
    """Sets of consecutive positive segments."""
    found, current = [], set()
    for t, positive in enumerate(row):
        if positive:
            current.add(t)
        elif current:
            found.append(current)
            current = set()
    return [*found, current] if current else found


def iou(first, second):
    return Fraction(len(first & second), len(first | second))


def mean_f(counts):
    scores = [Fraction(2 * tp, 2 * tp + fp + fn) for tp, fp, fn in counts if tp + fp + fn]
    return sum(scores) / len(scores) if scores else Fraction(1)
