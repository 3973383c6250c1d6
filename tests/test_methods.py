"""Every method that ships: that it trains, its gate, and that a choice of method overrides nobody's values."""

import pytest
from hydra.utils import instantiate

import tiny
from mmcse.configuration import check_calls, compose_config, config_folder
from mmcse.evaluate import evaluate
from mmcse.models import count_parameters
from mmcse.train import train

pytestmark = pytest.mark.slow

GATES = dict.fromkeys(("mmcse", "mmcse_pyramid"), "video/visual") | dict.fromkeys(
    ("jomold", "cmpae", "ma", "lsld", "dhhn", "dhhn_retrain", "lfav"), "audio/visual"
)
METHODS = sorted(file.stem for file in (config_folder() / "model").glob("*.yaml"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_its_checkpoint_scores_what_its_record_says(method, smoke_bank, tmp_path):
    chosen = [f"model={method}", *tiny.data(smoke_bank), *tiny.TRAINING]
    overrides = [*chosen, *tiny.method(*chosen), f"run.root={tmp_path}"]
    run = train(compose_config("train", overrides))
    assert run.record["name"] == method
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    result = evaluate(compose_config("eval", [f"checkpoint={checkpoint}", "trainer.accelerator=cpu"]))
    assert result["scores"] == run.record["scores"]["test"]
    assert result["gate"] == GATES.get(method, "video/video")


def test_an_experiment_and_the_command_line_have_the_last_word():
    ours = ["seed=3", "trainer.max_epochs=7", "optimizer.lr=0.5", "data.batch_size=9", "objective=valor"]
    config = compose_config("train", ["model=han", *ours, "optimizer=adamw", "scheduler=warmup_cosine"])
    check_calls(config)
    assert (config.seed, config.trainer.max_epochs, config.optimizer.lr, config.data.batch_size) == (3, 7, 0.5, 9)
    assert config.objective._target_.endswith("VALORObjective")
    assert config.optimizer._target_ == "torch.optim.AdamW"
    experiment = compose_config("train", ["experiment=baselines/valor"])
    assert experiment.optimizer.lr == 5e-4  # not the method's
    assert experiment.run.name == "baselines/valor"
    assert compose_config("train", ["experiment=baselines/valor", "run.name=x"]).run.name == "x"


@pytest.mark.parametrize(("row", "parameters"), [("mmcse", 4_488_141), ("valor", 5_051_211)])
def test_table_5_rows_are_the_networks_of_the_papers_parameters(row, parameters):
    config = compose_config("train", [f"experiment=table5/{row}"])
    assert config.model == compose_config("train", [f"experiment=table1/{row}"]).model  # as its header says
    widths = {"audio_dim": config.data.bank.audio_dim, "visual_dim": config.data.bank.visual_dim}
    assert count_parameters(instantiate(config.model, **widths))[0] == parameters
