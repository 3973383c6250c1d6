import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_parsings import parsings
from torchmetrics import MetricCollection

from mmcse.errors import UserError
from mmcse.evaluation import ParsingMetric, parsing_scores, per_class_scores, video_level_f1

N, T, K = 9, 6, 4


@pytest.fixture
def videos():
    return make_videos()


def make_videos(seed=0):
    """Four (N, T, K) and two (N, K) tensors, as `update` takes them."""
    rng = torch.Generator().manual_seed(seed)
    segments = [torch.rand(N, T, K, generator=rng) < p for p in (0.4, 0.5, 0.4, 0.5)]
    return segments, [torch.rand(N, K, generator=rng) < 0.5 for _ in range(2)]


def add(metric, videos, rows):
    segments, (video_pred, weak) = videos
    metric.update(*(x[rows] for x in segments), video_pred=video_pred[rows], weak=weak[rows])


def expected(videos):
    segments, whole = videos
    return parsing_scores(*segments) | video_level_f1(*whole)


@given(parsings(), st.data())
def test_any_split_in_any_order_gives_the_same_bits(arrays, data):
    tensors = [torch.from_numpy(array) for array in arrays]
    count = len(tensors[0])
    order = torch.tensor(data.draw(st.permutations(range(count))))
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1))) if count > 1 else [])
    metric = ParsingMetric(tensors[0].shape[-1])
    for rows in torch.tensor_split(order, cuts):
        metric.update(*(tensor[rows] for tensor in tensors))
    assert metric.compute() == parsing_scores(*arrays)
    table = per_class_scores(*arrays)
    for name, columns in metric.per_class().items():
        for column, values in columns.items():
            np.testing.assert_array_equal(values, table[name][column])


def test_video_level_f1_is_there_only_with_weak_labels(videos):
    metric = ParsingMetric(K)
    metric.update(*videos[0])
    assert metric.compute() == parsing_scores(*videos[0])
    metric.reset()
    add(metric, videos, slice(0, 5))
    add(metric, videos, slice(5, N))
    assert metric.compute() == expected(videos)


def test_reset_forgets_everything(videos):
    metric = ParsingMetric(K)
    add(metric, make_videos(seed=1), slice(None))
    metric.reset()
    add(metric, videos, slice(None))
    assert metric.compute() == expected(videos)
    metric.reset()
    with pytest.raises(UserError, match="no video"), pytest.warns(UserWarning, match="before the ``update``"):
        metric.compute()


def test_copies_are_independent_and_complete(videos):
    metric = ParsingMetric(K)
    add(metric, videos, slice(0, 4))
    copies = metric.clone(), pickle.loads(pickle.dumps(metric)), metric.to("cpu").to(torch.float16)
    for copy in copies:
        add(copy, videos, slice(4, N))
        assert copy.compute() == expected(videos)


def test_forward_scores_the_batch_and_adds_it(videos):
    metric = ParsingMetric(K)
    first = metric(*(x[:4] for x in videos[0]))
    assert first == parsing_scores(*(x[:4] for x in videos[0]))
    metric(*(x[4:] for x in videos[0]))
    assert metric.compute() == parsing_scores(*videos[0])
    assert metric.per_video().shape == (N, 10)


def test_no_state_needs_double_precision_on_the_device(videos):
    metric = ParsingMetric(K)
    add(metric, videos, slice(None))
    dtypes = {state.dtype for name, state in metric.metric_state.items() if name != "rows"}
    assert dtypes | {rows.dtype for rows in metric.rows} == {torch.int64}


def test_a_collection_does_not_merge_two_of_them(videos):
    """Torchmetrics merges metrics of a collection whose states agree after the first batch."""
    segments = videos[0]
    collection = MetricCollection({"a": ParsingMetric(K), "b": ParsingMetric(K)})
    collection.update(*segments)
    for name in ("a", "b"):
        assert collection[name].compute() == parsing_scores(*segments)


def test_mistakes_are_named(videos):
    segments, (video_pred, _) = videos
    with pytest.raises(UserError, match="4 classes; the metric was made for 25"):
        ParsingMetric(25).update(*segments)
    with pytest.raises(UserError, match="both"):
        ParsingMetric(K).update(*segments, video_pred=video_pred)
    with pytest.raises(UserError, match="pred_audio holds"):
        ParsingMetric(K).update(segments[0] * 0.7, *segments[1:])


def run_process(rank, splits, folder):
    """What one of several processes does: its own videos in, the common result to a file."""
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=len(splits))
    videos = make_videos()
    metric = ParsingMetric(K)
    for rows in splits[rank]:
        add(metric, videos, rows)
    results = metric.compute(), metric.per_class()
    # The states are this process's own again after a result, and more can be added.
    add(metric, videos, [rank])
    torch.save((*results, metric.compute(), len(metric.per_video())), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*compute.*before the.*update")
@pytest.mark.parametrize(
    "splits",
    [
        ([[0, 1, 2], [3, 4, 5, 6]], [[7, 8]]),
        ([[8, 1, 3, 5], [0, 2, 4, 6], [7]], []),
        ([], [list(range(N))]),
    ],
    ids=["uneven", "second-empty", "first-empty"],
)
def test_two_processes_give_the_bits_of_one(splits, tmp_path, videos):
    torch.multiprocessing.spawn(run_process, (splits, tmp_path), nprocs=2)
    table = per_class_scores(*videos[0])
    again = tuple([torch.cat((x, x[:2])) for x in part] for part in videos)
    for rank in range(2):
        scores, classes, more, own = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert scores == expected(videos)
        assert more == expected(again)
        assert own == sum(map(len, splits[rank])) + 1
        for name, columns in classes.items():
            for column, values in columns.items():
                np.testing.assert_array_equal(values, table[name][column])
