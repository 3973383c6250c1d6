"""What makes two runs the same: files by their content, and keys that were added later only where they are at work."""

import pytest
from omegaconf import OmegaConf

import tiny
from mmcse.configuration import compose_config
from mmcse.errors import MissingFileError
from mmcse.runs.collect import result_of
from mmcse.runs.identity import FILES, NEWER, file_digests, identifying, run_identity
from runs_made_up import record

WORLD_0 = "9437f4e5087ff686a6ed02cf956b578258d062ec4b55986d7175f99dd4202079"
"""Digest of SimLLP small, world 0, in the records."""


def plain(*overrides):
    return OmegaConf.to_container(compose_config("train", [*tiny.data("somewhere"), *overrides]), resolve=True)


def test_newer_keys_count_only_where_they_are_at_work():
    config = plain()
    before = identifying(config)
    assert not {key.split(".")[-1] for key in NEWER} & {*before, *before["evaluation"]}
    assert run_identity(config, "digest") == run_identity(plain("evaluation.gate_threshold=null"), "digest")
    others = [plain("evaluation.gate_threshold=0.4"), plain("evaluation.select_on_test=true"), plain("+rates.a=1")]
    assert len({run_identity(other, "digest") for other in [config, *others]}) == 4


def test_the_order_of_the_videos_and_the_number_of_processes_count_where_they_are_not_as_usual():
    usual = run_identity(plain(), "digest")
    assert run_identity(plain("seed=3"), "digest") == run_identity(plain("data.seed=87"), "digest") == usual
    assert run_identity(plain(), "digest", processes=1) == usual
    assert len({usual, run_identity(plain("data.seed=1"), "digest"), run_identity(plain(), "digest", processes=2)}) == 3


def test_the_identity_of_the_paper_s_recipe_stays():
    """Results that were collected since depend on it."""
    assert run_identity(plain(), "digest") == "c8c9b59b24"


def test_the_identities_of_recorded_runs_stay():
    recorded = {"leap": "8846a204eb", "lfav": "ca3ed7c293", "mmcse_pyramid": "4a9792e80d"}  # on SimLLP's world 0
    for name, identity in recorded.items():
        config = OmegaConf.to_container(compose_config("train", [f"experiment=baselines/{name}"]), resolve=True)
        assert run_identity(config, WORLD_0) == identity


def test_files_count_by_what_is_in_them(tmp_path):
    one, two, other = (tmp_path / name for name in ("one.tsv", "two.tsv", "other.tsv"))
    one.write_text("a"), two.write_text("a"), other.write_text("b")
    configs = [plain(f"data.label_changes={file}") for file in (one, two, other)]
    first, second, third = (run_identity(config, "digest", file_digests(config)) for config in configs)
    assert first == second != third
    assert run_identity(plain(), "digest", file_digests(plain())) == run_identity(plain(), "digest") != first


def test_folders_count_by_all_files_in_them(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.npy").write_bytes(b"a")
    config = plain(f"data.segment_labels={tmp_path / 'labels'}")
    before = file_digests(config)
    (tmp_path / "labels" / "a.npy").rename(tmp_path / "labels" / "b.npy")
    assert file_digests(config) != before
    assert list(before) == ["data.segment_labels"]
    assert set(before) <= set(FILES)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"which data\.label_changes names"):
        file_digests(plain(f"data.label_changes={tmp_path / 'gone.tsv'}"))


def test_collected_results_tell_given_files_from_those_of_stages():
    made_up = record()
    assert "files" not in result_of(made_up)["config"]
    made_up["files"] = {"data.label_changes": "abc"}
    assert result_of(made_up)["config"]["files"] == {"data.label_changes": "abc"}
    made_up["config"]["stages"] = {"base": {"feeds": "data.label_changes"}}
    assert "files" not in result_of(made_up)["config"]
