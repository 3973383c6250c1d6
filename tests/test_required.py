"""Values that experiments leave to their user: asked for by name, with the command that makes them, before any work."""

import pytest

from mmcse.cli import main
from mmcse.configuration import check_calls, compose_config, experiments
from mmcse.errors import UserError
from mmcse.required import require_values, required_values
from mmcse.runs.identity import FILES

DATA = ("data.bank.features=nowhere", "data.bank.annotations=nowhere")
REQUIRED = {
    "table1/lsld": {"data.segment_labels": "mmcse segment-labels CLAP_CLIP_BANK --out SEGMENT_LABELS"},
    "table7/leap": {"model.label_embeddings": "mmcse label-embeddings GLOVE.txt --out LABEL_EMBEDDINGS.npy"},
}


def test_these_experiments_require_files():
    assert {name: required for name in experiments() if (required := required_values(name))} == REQUIRED
    assert {key for required in REQUIRED.values() for key in required} <= set(FILES)  # known by their contents


@pytest.mark.parametrize("experiment", REQUIRED)
def test_a_run_without_them_ends_before_it_begins(experiment, tmp_path, capsys):
    assert main(["train", f"experiment={experiment}", *DATA, f"run.root={tmp_path / 'runs'}"]) == 2
    [(key, command)] = REQUIRED[experiment].items()
    add = f"{key}={command.split()[-1]}"
    said = f"mmcse: {key} has no default and was not given: add {add}. `{command}` makes what {key} names.\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("experiment", REQUIRED)
@pytest.mark.parametrize("value", ["somewhere", "null"])
def test_what_is_given_stands_in_their_place(experiment, value):
    [key] = REQUIRED[experiment]
    config = compose_config("train", [f"experiment={experiment}", *DATA, f"{key}={value}"])
    require_values(config)
    check_calls(config)


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(UserError) as error:
        require_values(compose_config("train", ["experiment=table1/lsld"]))
    assert str(error.value) == (
        "data.bank.annotations, data.bank.features, data.segment_labels have no defaults and were not given: add "
        "data.bank.annotations=VALUE data.bank.features=VALUE data.segment_labels=SEGMENT_LABELS. "
        "`mmcse segment-labels CLAP_CLIP_BANK --out SEGMENT_LABELS` makes what data.segment_labels names."
    )
