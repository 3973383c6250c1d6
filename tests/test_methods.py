"""Every method that ships: its recipe, that it trains, and that a choice of method overrides nobody's values."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

import tiny
from mmcse.configuration import check_calls, compose_config, config_folder
from mmcse.evaluate import evaluate
from mmcse.objectives import HANObjective, MMCSEObjective, VALORObjective
from mmcse.train import train

pytestmark = pytest.mark.slow

GATES = dict.fromkeys(("mmcse", "mmcse_pyramid"), "video/visual") | dict.fromkeys(
    ("jomold", "cmpae", "ma", "lsld", "dhhn", "lfav"), "audio/visual"
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


@pytest.mark.parametrize(
    ("method", "objective", "hidden", "layers", "rates", "epochs", "batch", "seed"),
    [
        ("han", HANObjective, 512, 1, (3e-4, 3e-4), 40, 16, 87),
        ("valor", VALORObjective, 512, 1, (1e-4, 1e-6), 60, 64, 1000),
        ("valor_plus", VALORObjective, 256, 4, (3e-4, 3e-6), 60, 64, 64),
        ("valor_plus_plus", VALORObjective, 256, 4, (3e-4, 3e-6), 60, 64, 87),
        ("mmcse", MMCSEObjective, 256, 4, (3e-4, 3e-6), 60, 64, 87),
    ],
)
def test_recipes_are_those_of_the_papers(method, objective, hidden, layers, rates, epochs, batch, seed):
    config = compose_config("train", [f"model={method}"])
    assert isinstance(instantiate(config.objective), objective)
    assert (config.model.hidden_dim, config.model.num_layers) == (hidden, layers)
    assert (config.trainer.max_epochs, config.data.batch_size, config.seed) == (epochs, batch, seed)
    optimizer = instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.Adam if method == "han" else torch.optim.AdamW)
    assert optimizer.defaults["lr"] == rates[0]
    if method == "han":
        assert isinstance(instantiate(config.scheduler)(optimizer), torch.optim.lr_scheduler.StepLR)
        assert config.trainer.gradient_clip_val is None
    else:
        assert config.scheduler.final_share * config.optimizer.lr == pytest.approx(rates[1])
        assert config.trainer.gradient_clip_val == 1.0


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


@pytest.mark.parametrize(
    ("name", "target", "layout"),
    [
        ("table1/han", "HAN", "llp"),
        ("table1/valor", "VALOR", "llp"),
        ("table1/mmcse", "MMCSE", "llp"),
        ("table1/valor_star", "VALOR", "valor"),
        ("table1/mmcse_star", "MMCSE", "valor"),
        ("table7/mmcse", "MMCSE", "llp"),
        ("text62/mmcse", "MMCSE", "valor"),
    ],
)
def test_rows_of_the_paper_name_their_features(name, target, layout):
    config = compose_config("train", [f"experiment={name}"])
    assert config.model._target_ == f"mmcse.models.{target}"
    assert config.data.bank.layout == layout
    assert OmegaConf.missing_keys(config) == {"data.bank.features", "data.bank.annotations"}


@pytest.mark.parametrize(("row", "parameters"), [("mmcse", 4_488_141), ("valor", 5_051_211)])
def test_table_5_rows_are_the_networks_of_the_papers_parameters(row, parameters, tmp_path):
    from mmcse.models import count_parameters

    config = compose_config("train", [f"experiment=table5/{row}"])
    widths = {"audio_dim": config.data.bank.audio_dim, "visual_dim": config.data.bank.visual_dim}
    assert count_parameters(instantiate(config.model, **widths))[0] == parameters
