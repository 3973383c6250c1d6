"""The rule, the calibration and the quality report of pseudo labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmcse.errors import MissingFileError, UserError
from mmcse.video.pseudo_labels import ByModality, best_thresholds, pseudo_labels, quality, text_logits
from mmcse.video.recipe import Recipe
from mmcse.vocabulary import LLP_CLASSES

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))


def f_of(marked, truth):
    found = (marked & truth).sum()
    return 2 * found / (marked.sum() + truth.sum()) if marked.sum() + truth.sum() else 0.0


@st.composite
def annotated(draw):
    """Logits with many ties, weak labels and truth."""
    N, T, K = draw(SHAPES)
    logits = draw(arrays.arrays(np.float32, (N, T, K), elements=st.integers(-3, 3)))
    return logits, draw(arrays.arrays(bool, (N, K))), draw(arrays.arrays(bool, (N, T, K)))


class TestRule:
    def test_marks_what_exceeds_the_threshold_and_is_in_the_weak_label(self):
        logits = np.array([[[1.0, 5.0], [2.0, 5.0]], [[3.0, 9.0], [1.5, -1.0]]])  # (2, 2, 2)
        marked = pseudo_labels(logits, np.array([1.5, 4.0]), np.array([[1, 0], [1, 1]]))
        np.testing.assert_array_equal(marked, [[[0, 0], [1, 0]], [[1, 1], [0, 0]]])

    @given(annotated(), st.integers(-3, 3))
    def test_a_higher_threshold_marks_a_part_of_it(self, videos, threshold):
        logits, weak, _ = videos
        low, high = (pseudo_labels(logits, np.full(logits.shape[-1], t), weak) for t in (threshold, threshold + 1))
        assert not (high & ~low).any()
        assert not (low.any(axis=1) & ~weak).any()

    @pytest.mark.parametrize(("thresholds", "weak"), [(3, (2, 4)), (4, (2, 3)), (4, (3, 4))])
    def test_shapes_that_do_not_fit(self, thresholds, weak):
        with pytest.raises(UserError, match=r"need thresholds \(4,\) and weak labels \(2, 4\)"):
            pseudo_labels(np.zeros((2, 10, 4)), np.zeros(thresholds), np.zeros(weak))

    def test_logits_are_scaled_cosines(self):
        rng = np.random.default_rng(0)
        segments, prompts = rng.standard_normal((2, 3, 7)), rng.standard_normal((4, 7))
        logits = text_logits(segments, prompts, 20)
        assert logits.shape == (2, 3, 4)
        one, other = segments[1, 2], prompts[3]
        cosine = one @ other / np.sqrt((one @ one) * (other @ other))
        assert logits[1, 2, 3] == pytest.approx(20 * cosine, rel=1e-6)
        np.testing.assert_allclose(text_logits(5 * segments, prompts / 3, 20), logits, rtol=1e-5)

    def test_nothing_fits_what_is_not_there(self):
        logits = text_logits(np.zeros((1, 2, 7)), np.ones((3, 7)), 20)
        assert not pseudo_labels(logits, np.full(3, -1e9), np.ones((1, 3))).any()


class TestCalibration:
    @given(annotated())
    def test_no_threshold_is_better(self, videos):
        """Against every threshold that makes a difference, one after another."""
        logits, weak, truth = videos
        K = logits.shape[-1]
        chosen = best_thresholds(logits, weak, truth, np.full(K, 99.0))
        marked = pseudo_labels(logits, chosen, weak)
        for k in range(K):
            tried = [pseudo_labels(logits, np.full(K, t), weak)[..., k] for t in np.arange(-4, 4) + 0.5]
            assert f_of(marked[..., k], truth[..., k]) == max(f_of(m, truth[..., k]) for m in tried)
            if chosen[k] == 99:
                assert not (truth[..., k] & weak[:, None, k]).any()

    def test_thresholds_lie_between_what_is_marked_and_what_is_not(self):
        logits = np.array([8.0, 6.0, 3.0, 1.0], np.float32).reshape(1, 4, 1)
        truth = np.array([1, 1, 0, 0], bool).reshape(1, 4, 1)
        weak, fallback = np.ones((1, 1), bool), np.zeros(1)
        assert best_thresholds(logits, weak, truth, fallback) == [4.5]
        assert best_thresholds(logits, weak, np.ones_like(truth), fallback) == [0.0]  # one below the lowest

    def test_truth_outside_the_weak_label_cannot_be_reached_and_changes_nothing(self):
        logits = np.array([[8.0, 2.0], [9.0, 7.0]], np.float32)[..., None]  # (2, 2, 1)
        truth = np.array([[1, 0], [1, 1]], bool)[..., None]
        assert best_thresholds(logits, np.array([[1], [0]]), truth, np.zeros(1)) == [5.0]

    def test_a_class_that_cannot_be_judged_keeps_its_threshold(self):
        logits, weak = np.ones((2, 3, 2), np.float32), np.array([[1, 0], [1, 0]])
        truth = np.zeros((2, 3, 2), bool)
        truth[0, 0, 1] = True
        np.testing.assert_array_equal(best_thresholds(logits, weak, truth, np.array([7.0, -3.0])), [7, -3])


class TestQuality:
    def test_counts_segments_of_each_class(self):
        truth = np.zeros((1, 4, 3), bool)
        truth[0, :2, 0] = True
        marked = np.zeros_like(truth)
        marked[0, 1:4, 0] = True
        marked[0, 0, 1] = True
        found = quality(ByModality(marked, truth), ByModality(truth, truth))
        np.testing.assert_allclose(found["audio"]["precision"], [100 / 3, 0, np.nan])
        np.testing.assert_allclose(found["audio"]["recall"], [50, np.nan, np.nan])
        np.testing.assert_allclose(found["audio"]["F"], [40, 0, np.nan])
        np.testing.assert_allclose(found["visual"]["F"], [100, np.nan, np.nan])
        assert found["scores"]["segment/V"] == 100
        assert found["scores"]["segment/A"] == pytest.approx(20)


class TestRecipe:
    def write(self, folder, text):
        file = folder / "recipe.yaml"
        file.write_text(text)
        return file

    def test_of_valor_for_llp(self):
        recipe = Recipe.find("valor_llp")
        assert recipe.classes == LLP_CLASSES
        assert recipe.audio.prompts[12] == "This is a sound of chicken, rooster"
        assert recipe.visual.prompts[LLP_CLASSES.index("Dog")] == "A photo of a dog."
        assert (recipe.audio.thresholds.sum(), recipe.visual.thresholds.sum()) == (44, 394)

    def test_template_is_a_recipe(self):
        assert Recipe.find("template").classes == ("Dog", "Doorbell")

    def test_is_written_as_it_is_read(self, tmp_path):
        recipe = Recipe.find("valor_llp").with_thresholds(audio=np.arange(25) / 7, visual=-np.arange(25) * np.pi)
        recipe.write(tmp_path / "new.yaml", "two\nlines")
        again = Recipe.find(tmp_path / "new.yaml")
        assert again.classes == recipe.classes
        for modality in ("audio", "visual"):
            ours, theirs = getattr(recipe, modality), getattr(again, modality)
            assert ours.prompts == theirs.prompts
            np.testing.assert_array_equal(ours.thresholds, theirs.thresholds)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("classes: {Dog: {audio: {prompt: a, threshold: 1}}}", "class 'Dog' has no visual"),
            ("classes: {Dog: {audio: {prompt: a}, visual: {prompt: a, threshold: 1}}}", "audio has no threshold"),
            ("classes: {Dog: {audio: {threshold: 1}, visual: {prompt: a, threshold: 1}}}", "audio has no prompt"),
            ("classes: {Dog: {audio: {prompt: '', threshold: 1}, visual: {prompt: a, threshold: 1}}}", "prompt is ''"),
            ("classes: {Dog: {audio: {prompt: a, threshold: [1, 2]}, visual: {prompt: a, threshold: 1}}}",
             r"threshold is \[1, 2\]; expected one number"),
            ("classes: {Dog: {audio: {prompt: a, threshold: .inf}, visual: {prompt: a, threshold: 1}}}", "is inf"),
            ("classes: {Dog: {audio: {prompt: a, treshold: 1}, visual: {prompt: a, threshold: 1}}}",
             "unknown key 'treshold'. Did you mean 'threshold'"),
            ("classes: {Dog: {audio: hello, visual: {prompt: a, threshold: 1}}}", "audio has no prompt and threshold"),
            ("classes: [Dog, Cat]", "class 'Dog' has no audio and visual"),
        ],
    )  # fmt: skip
    def test_mistakes_are_named(self, tmp_path, text, message):
        with pytest.raises(UserError, match=message) as caught:
            Recipe.find(self.write(tmp_path, text))
        assert "\n" not in str(caught.value)

    def test_an_unknown_recipe(self, tmp_path):
        with pytest.raises(MissingFileError, match=r"valor_lpp.*Did you mean 'valor_llp'"):
            Recipe.find("valor_lpp")
