"""Every experiment that ships: it builds, takes one step and leaves a record; rows that are one model are one model."""

import pytest
from omegaconf import OmegaConf

import tiny
from mmcse.configuration import compose_config, experiments
from mmcse.runs.identity import run_identity
from mmcse.train import train

FULL = ("table2/full", "table3/full", "table4/all", "table6/lambda_0.1", "table1/mmcse_star", "text62/mmcse")
ABLATIONS = [name for name in experiments() if name.partition("/")[0] in ("table2", "table3", "table4", "table6")]
STEP = ("debug=step", *tiny.TRAINING[1:])


def step(name, bank, root):
    overrides = (
        f"experiment={name}",
        *STEP,
        *tiny.data(bank),
        *tiny.method(f"experiment={name}"),
        *tiny.required(name, bank, root),
        f"run.root={root}",
        f"run.name={name}",
    )
    return train(compose_config("train", overrides))


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments())
def test_takes_a_step_and_leaves_a_record(name, smoke_bank, tmp_path):
    run = step(name, smoke_bank, tmp_path)
    assert run.record["status"] == "ok"
    assert run.record["name"] == name
    assert run.folder.parent == tmp_path / name
    losses = set(run.record["losses"]) - {"total", "video", "segment_audio", "segment_visual"}
    expected = {
        "table2/none": {"cooccurrence"},
        "table2/events": {"reconstruction", "cooccurrence"},
        "table3/no_secm": {"reconstruction", "orthogonality"},
        "table4/basic": set(),
        "table4/reconstruction": {"reconstruction"},
        "table4/orthogonality": {"orthogonality"},
        "table4/decoupling": {"reconstruction", "orthogonality"},
    }
    if name in ABLATIONS:
        assert losses == expected.get(name, {"reconstruction", "orthogonality", "cooccurrence"})


def test_the_full_model_is_one_run_under_every_name_and_no_other_row_is():
    identities = {}
    for name in {*FULL, *ABLATIONS}:
        config = compose_config("train", (f"experiment={name}", *tiny.data("somewhere")))
        identities[name] = run_identity(OmegaConf.to_container(config, resolve=True), "digest")
    assert len({identities[name] for name in FULL}) == 1
    assert len(set(identities.values())) == 1 + len(identities.keys() - set(FULL))
