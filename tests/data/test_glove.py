"""Embeddings of class names: looked up in made-up word vectors of GloVe's form, and what is said of wrong files."""

import numpy as np
import pytest

from mmcse.cli import main
from mmcse.data.glove import class_embeddings, words_of
from mmcse.errors import MissingFileError, UserError
from mmcse.models.leap import label_table
from mmcse.vocabulary import LEAP_WORDINGS, LLP_CLASSES

WORDS = sorted({word for name in LLP_CLASSES for word in words_of(LEAP_WORDINGS.get(name, name))})
VECTORS = dict(zip(WORDS, np.random.default_rng(0).standard_normal((len(WORDS), 6)).round(4), strict=True))


def line(word, vector):
    return f"{word} {' '.join(map(str, vector))}\n"


@pytest.fixture
def glove(tmp_path):
    """The words in reverse order, between others; some lines hold what is no vector of a wanted word."""
    file = tmp_path / "glove.txt"
    lines = [line("the", range(6)), ". . . 1 2 3 4 5 6\n", line("DOG", range(6)), line("café", range(6))]
    lines += [line(word, vector) for word, vector in reversed(VECTORS.items())]
    lines += [line("dog", range(6)), "after the last word that is wanted nothing is read"]
    file.write_text("".join(lines), encoding="utf-8")
    return file


def test_the_words_of_a_name():
    assert words_of("Frying_(food)") == ["frying", "food"]
    assert words_of("Lawn-mower") == ["lawn", "mower"]
    assert words_of("Café") == ["café"]


def test_classes_stand_in_their_order_as_their_vector_or_the_mean_of_several(glove):
    table = class_embeddings(glove, {name: name for name in ("Singing", "Cat", "Basketball_bounce")})
    basketball = (VECTORS["basketball"] + VECTORS["bounce"]) / 2
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, np.array([VECTORS["singing"], VECTORS["cat"], basketball], dtype=np.float32))


def test_the_command_makes_what_leap_reads(glove, tmp_path, capsys):
    out = tmp_path / "made" / "labels.npy"
    assert main(["label-embeddings", str(glove), "--out", str(out)]) == 0
    table = label_table(out, 25).numpy()
    assert table.shape == (25, 6)
    np.testing.assert_array_equal(table[3], VECTORS["dog"].astype(np.float32))  # as it stands, not normalised
    cry = np.mean([VECTORS[word] for word in ("baby", "cry", "infancy", "cry")], axis=0)
    np.testing.assert_allclose(table[22], cry, rtol=1e-6)
    said, norms = capsys.readouterr().out, np.linalg.norm(table, axis=1)
    assert f"norms from {norms.min():.1f} to {norms.max():.1f} (of the authors' table: 4.3 to 7.9)" in said
    assert "Frying_(food) (fry + food)" in said
    assert "Speech (" not in said


def test_classes_of_one_s_own_by_their_names_or_by_other_words(glove, tmp_path):
    (tmp_path / "classes.yaml").write_text("classes: {Doorbell: Fire alarm, Dog: {audio: {prompt: A dog.}}, Cat: }")
    out = tmp_path / "labels.npy"
    assert main(["label-embeddings", str(glove), "--out", str(out), "--classes", str(tmp_path / "classes.yaml")]) == 0
    alarm = (VECTORS["fire"] + VECTORS["alarm"]) / 2
    expected = np.array([alarm, VECTORS["dog"], VECTORS["cat"]], dtype=np.float32)
    np.testing.assert_array_equal(np.load(out), expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (line("dog", range(3)), r"has no vector for cat \(Cat\). Give these classes other words: --classes"),
        (line("dog", range(3)) + line("cat", range(4)), "line 2: 'cat' is not followed by 3 finite numbers"),
        (line("dog", ("1", "x", "2")), "line 1: 'dog' is not followed by some finite numbers"),
        (line("dog", ("1", "nan")), "line 1: 'dog' is not followed by 2 finite"),
        ("dog\n", "line 1|has a vector for none"),
        ("dog \n", "line 1: 'dog' is not followed by some"),
        ("", "has a vector for none of the words. Expected GloVe's text format"),
        ("PK\x03\x04" + "x" * 2_000_000, "line 1 has 1,000,000 bytes"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_written(content, said, tmp_path, capsys):
    (tmp_path / "glove.txt").write_text(content)
    with pytest.raises(UserError, match=said):
        class_embeddings(tmp_path / "glove.txt", {"Dog": "Dog", "Cat": "Cat"})
    out = tmp_path / "labels.npy"
    assert main(["label-embeddings", str(tmp_path / "glove.txt"), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("mmcse: ")
    assert not out.exists()


def test_a_missing_file_and_a_class_without_words_are_named(glove, tmp_path):
    with pytest.raises(MissingFileError, match=r"no file .*gone.txt. Expected word vectors"):
        class_embeddings(tmp_path / "gone.txt", {"Dog": "Dog"})
    with pytest.raises(UserError, match="The class '???' has no word".replace("?", r"\?")):
        class_embeddings(glove, {"Dog": "Dog", "???": "???"})


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["label-embeddings", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for words in ("glove.6B.300d.txt", "the mean of their vectors, which is our choice", "model.label_embeddings=FILE"):
        assert words in said
