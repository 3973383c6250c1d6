"""The recipe of every method and of every row of Tables 1 and 7: what trains it, and how its scores are decided.

Reference numbers cover networks and losses in evaluation mode. Optimisers, schedules, rates of dropout, gates and rules
of selection they do not, so these are typed here once more, from what the authors' papers and code say; what nobody
says stands here neither. A setting has the name that it has in a configuration.
"""

from collections import defaultdict
from inspect import signature
from typing import Any

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from mmcse.configuration import compose_config, config_folder, experiments
from mmcse.data.layouts import layout_named
from mmcse.stages import stage_config
from mmcse.vocabulary import LLP_CLASSES

pytestmark = pytest.mark.slow

Recipe = dict[str, Any]

USUAL: Recipe = {
    "rates": None,
    "stages": None,
    "evaluation.threshold": 0.5,
    "evaluation.gate_threshold": 0.5,
    "evaluation.search_thresholds": None,
    "evaluation.test_pair": None,
    "evaluation.select": "val/segment/Type",
    "evaluation.select_on_test": False,
}
"""What all methods have that do not say otherwise."""

ADAM: Recipe = {
    **USUAL,
    "optimizer._target_": "torch.optim.Adam",
    "optimizer.betas": [0.9, 0.999],
    "optimizer.weight_decay": 0.0,
    "trainer.gradient_clip_val": None,
    "schedule": "step",
    "scheduler.step_size": 10,
    "scheduler.gamma": 0.1,
}
"""HAN's training, and that of what is made of it."""

ADAMW: Recipe = {
    **USUAL,
    "optimizer._target_": "torch.optim.AdamW",
    "optimizer.betas": [0.5, 0.999],
    "optimizer.weight_decay": 1e-3,
    "trainer.gradient_clip_val": 1.0,
    "schedule": "cosine",
}
"""VALOR's, which MM-CSE follows."""

HYBRID: Recipe = {"model.hidden_dim": 512, "model.num_layers": 1, "model.num_heads": 1, "model.feedforward_dim": 512}
"""HAN's encoder."""

PYRAMID: Recipe = {
    "model.hidden_dim": 512,
    "model.num_levels": 4,
    "model.num_heads": 8,
    "model.feedforward_dim": 512,
    "model.attention_dropout": 0.1,
    "model.dropout": 0.2,
}
"""MM-Pyramid's."""


def recipe(base: Recipe, epochs: int, batch: int, lr: float, gate: str, **more: Any) -> Recipe:
    """A recipe; the names in `more` have __ for the dots."""
    usual = {"trainer.max_epochs": epochs, "data.batch_size": batch, "optimizer.lr": lr, "evaluation.gate": gate}
    return {**base, **usual, **{name.replace("__", "."): value for name, value in more.items()}}


FALLS_OFTEN: Recipe = {"scheduler.step_size": 6, "scheduler.gamma": 0.25}

MA = recipe(
    ADAM | HYBRID, 12, 16, 3e-4, "audio/visual", seed=1, evaluation__select="last", stages=["ma_base"],
    model__dropout=0.1, objective__contrast=1, objective__visual_smoothing=0.1, objective__temperature=0.2,
    objective__contrast_smoothing=0.1, objective__video_target="audio",
)  # fmt: skip

JOMOLD = recipe(
    ADAM | HYBRID | FALLS_OFTEN, 25, 128, 5e-4, "audio/visual", seed=6, evaluation__select="val/event/A",
    stages=["noise_estimator"], model__dropout=0.1, model__class_dropout=0.5, objective__audio=2, objective__visual=1,
    objective__video=1, objective__contrast=1, objective__temperature=0.2, objective__contrast_smoothing=0.1,
    objective__visual_smoothing=0.1, objective__ramp="reference",
)  # fmt: skip

METHODS: dict[str, Recipe] = {
    "han": recipe(ADAM | HYBRID, 40, 16, 3e-4, "video/video", model__dropout=0.1, objective__visual_smoothing=0.1),
    "ma": MA,
    "cvcms": recipe(
        ADAM | HYBRID, 40, 64, 7e-5, "video/video", seed=0, evaluation__select="val/event/Type", stages=["ma_base"],
        scheduler__step_size=7, scheduler__gamma=0.5, model__dropout=0.4, model__class_dim=128,
        model__class_dropout=0.25, objective__contrast=0.85, objective__initial_epochs=2, objective__temperature=1,
        objective__visual_smoothing=0.1, objective__mixing=True, objective__original_features=False,
    ),
    "mgn": recipe(
        ADAM, 40, 16, 3e-4, "video/video", seed=1, model__hidden_dim=128, model__num_heads=8, model__audio_depth=3,
        model__visual_depth=3, model__cross_depth=6, model__drop_path=0.1, model__unimodal_rule="soft",
        model__cross_rule="soft", objective__visual_smoothing=0.1,
    ),
    "mmpyramid": recipe(
        ADAM | PYRAMID, 40, 16, 1e-4, "video/video", seed=1, model__stream_order="swapped",
        objective__visual_smoothing=0.1,
    ),
    "jomold": JOMOLD,
    "dhhn": recipe(
        ADAM, 10, 64, 3e-4, "audio/visual", seed=1, rates={"audio_guide": 6e-4, "visual_guide": 6e-5},
        evaluation__test_pair=True, model__hidden_dim=512, model__num_heads=1, model__feedforward_dim=512,
        model__dropout=0.1, model__guide_heads=8, model__audio_guide_layers=1, model__audio_guide_repeats=4,
        model__visual_guide_layers=2, model__visual_guide_repeats=3, objective__labels="weak",
        objective__visual_smoothing=0.1,
    ),
    "cmpae": recipe(
        ADAM | HYBRID | FALLS_OFTEN, 20, 128, 5e-4, "audio/visual", evaluation__threshold=0.25,
        evaluation__gate_threshold=0.45, evaluation__search_thresholds=8, evaluation__select="val/Avg",
        stages=["noise_estimator"], model__dropout=0.1, model__class_dropout=0.5, model__absence_dropout=0.2,
        model__feature_mix=0.8, model__evaluation_mix=0.7, objective__audio=2, objective__visual=0.6,
        objective__video=0.6, objective__contrast=1, objective__mutual=1, objective__visual_smoothing=0.1,
        objective__temperature=0.2, objective__contrast_smoothing=0.1, objective__ramp="reference",
    ),
    "lsld": recipe(
        ADAM | HYBRID | FALLS_OFTEN, 20, 32, 2e-4, "audio/visual", seed=6, evaluation__select="val/event/A",
        model__num_layers=4, model__dropout=0.1, model__class_dropout=0.5, model__motion=False, objective__audio=3,
        objective__visual=1, objective__video=1,
    ),
    "lfav": recipe(
        ADAM, 30, 16, 1e-4, "audio/visual", seed=1, rates={"interaction": 2e-4}, model__hidden_dim=512,
        model__num_heads=4, model__num_levels=4, model__dropout=0.2, model__threshold=0.5, model__roll="one",
        objective__third=1, objective__event=0.3, objective__warm_up=6, objective__labels="weak",
        objective__visual_smoothing=0.1,
    ),
    "leap": recipe(
        ADAM | PYRAMID, 30, 32, 1e-4, "video/video", seed=1, model__encoder="mmpyramid", model__num_layers=2,
        objective__segment=1, objective__similarity=1, objective__epsilon=0.01, objective__labels="pseudo",
    ),
    "valor": recipe(
        ADAMW, 60, 64, 1e-4, "video/video", seed=1000, model__hidden_dim=512, model__num_layers=1, model__num_heads=8,
        model__feedforward_dim=1024, model__dropout=0.1,
    ),
    "mmcse": recipe(
        ADAMW, 60, 64, 3e-4, "video/visual", seed=87, model__hidden_dim=256, model__class_dim=128, model__num_layers=4,
        model__num_heads=8, model__feedforward_dim=512, model__dropout=0.1, objective__reconstruction=1,
        objective__orthogonality=0.1, objective__cooccurrence=0.1,
    ),
}  # fmt: skip
METHODS["valor_plus"] = METHODS["valor"] | {
    "optimizer.lr": 3e-4, "seed": 64, "model.hidden_dim": 256, "model.num_layers": 4,
}  # fmt: skip
METHODS["valor_plus_plus"] = METHODS["valor_plus"] | {"seed": 87}
METHODS["mmcse_pyramid"] = {  # MM-CSE's training, MM-Pyramid's encoder
    **METHODS["mmcse"], "model.hidden_dim": 512, "model.num_levels": 4, "model.pyramid_attention_dropout": 0.1,
    "model.pyramid_dropout": 0.2,
}  # fmt: skip

STAGES: dict[str, Recipe] = {
    "ma_base": {name: value for name, value in MA.items() if name != "seed"} | {"stages": None},
    "noise_estimator": {
        **{name: value for name, value in JOMOLD.items() if name != "seed"},
        "stages": None, "objective.audio": 1, "model.cross_attention": False,
    },
}  # fmt: skip
"""What comes before some methods. The seed is that of the whole."""
MADE: dict[str, Recipe] = {
    "ma_base": {"threshold": 0.5},
    "noise_estimator": {"audio_threshold": 0.6, "visual_threshold": 1.8, "mean": "batches"},
}
METHODS["dhhn_retrain"] = METHODS["dhhn"] | {"rates": None, "objective.labels": "refined", "stages": ["ma_base"]}

ROWS: dict[str, tuple[str, str, Recipe]] = {
    "table1/han": ("han", "llp", {}),
    "table1/cvcms": ("cvcms", "llp", {}),
    "table1/ma": ("ma", "llp", {}),
    "table1/mgn": ("mgn", "llp", {"stages": ["ma_base"]}),
    "table1/mm_pyr": ("mmpyramid", "llp", {"stages": ["ma_base"]}),
    "table1/jomold": ("jomold", "llp", {}),
    "table1/dhhn": ("dhhn_retrain", "llp", {}),
    "table1/cmpae": ("cmpae", "llp", {"data.bank.tokens": "stored", "stages": None}),  # on the authors' noise ratios
    "table1/lsld": ("lsld", "llp", {"optimizer.lr": 8e-5, "model.num_layers": 6, "model.motion": True}),
    "table1/valor": ("valor_plus", "llp", {}),
    "table1/mmcse": ("mmcse", "llp", {}),
    "table1/valor_star": ("valor_plus_plus", "valor", {}),
    "table1/mmcse_star": ("mmcse", "valor", {}),
    "table7/lfav": ("lfav", "llp", {}),
    "table7/mmcse": ("mmcse", "llp", {}),
    "table7/leap": ("leap", "llp", {}),
    "table7/mmcse_mm_pyr": ("mmcse_pyramid", "llp", {}),
    "text62/mmcse": ("mmcse", "valor", {}),
}
"""Row -> its method, its features, and how it differs from the method."""
OWN_FILES = {"table1/lsld": {"data.segment_labels"}, "table7/leap": {"model.label_embeddings"}}
"""What a row may ask for besides features and annotations."""

DROPOUT: dict[str, dict[str, set[float]]] = {
    "han": {"layers": {0.1}},
    "ma": {"layers": {0.1}},
    "cvcms": {"layers": {0.4}, "event": {0.25}},
    "mgn": {part: {0.1} for part in ("audio", "visual", "cross")},
    "mmpyramid": {"encoder": {0.1, 0.2}},
    "jomold": {"layers": {0.1}, "class_dropout": {0.5}},
    "dhhn": {part: {0.1} for part in ("parser", "audio_guide", "visual_guide")},
    "cmpae": {"layers": {0.1}, "class_dropout": {0.5}, "absence_dropout": {0.2}},
    "lsld": {"layers": {0.1}, "class_dropout": {0.5}},
    "lfav": {"levels": {0.2}},
    "leap": {"encoder": {0.1, 0.2}, "audio_decoder": {0.1, 0.2}, "visual_decoder": {0.1, 0.2}},
    "valor": {"layers": {0.1}},
    "mmcse": {"audio_decoupling": {0.1}, "visual_decoupling": {0.1}, "layers": {0.1}},
}
"""Method -> part of its network -> the rates that occur in it."""


BORROWED = {"MMPyramid": "HAN", "MMCSEPyramid": "MMCSE"}
"""Networks that learn by the objective of another method; the others have one of their own name."""


def settings(config: DictConfig) -> dict[str, Any]:
    """What a configuration comes to, by dotted name, with defaults of arguments, and a gate that has a threshold."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    found = {f"{part}.{name}": value for part in plain for name, value in _arguments(plain[part]).items()} | plain
    found["stages"] = list(plain["stages"]) if plain["stages"] else None
    found["schedule"] = {"StepLR": "step", "warmup_cosine": "cosine"}[plain["scheduler"]["_target_"].split(".")[-1]]
    found["data.bank.tokens"] = plain["data"]["bank"].get("tokens")
    if plain["evaluation"]["gate_threshold"] is None:
        found["evaluation.gate_threshold"] = plain["evaluation"]["threshold"]
    return found


def _arguments(part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        return {}
    if not str(part.get("_target_")).startswith(("mmcse.models.", "mmcse.objectives.")):
        return part
    parameters = signature(get_class(part["_target_"])).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | part


def departures(config: DictConfig, expected: Recipe) -> dict[str, tuple[Any, Any]]:
    """The settings that are not those of a recipe: what they are, and what they should be."""
    found = settings(config)
    absent = object()
    return {name: (found.get(name), value) for name, value in expected.items() if found.get(name, absent) != value}


def test_no_method_and_no_row_is_left_out():
    assert {*METHODS, "probe"} == {file.stem for file in (config_folder() / "model").glob("*.yaml")}
    assert ROWS.keys() == {name for name in experiments() if name.startswith(("table1/", "table7/", "text62/"))}


@pytest.mark.parametrize("method", METHODS)
def test_recipes_are_those_of_the_authors(method):
    config = compose_config("train", [f"model={method}"])
    network = config.model._target_.split(".")[-1]
    assert config.objective._target_ == f"mmcse.objectives.{BORROWED.get(network, network)}Objective"
    assert departures(config, METHODS[method]) == {}
    for stage in config.stages or ():
        assert departures(stage_config(config, stage), STAGES[stage]) == {}
        assert config.stages[stage].makes.items() >= MADE[stage].items()


@pytest.mark.parametrize("row", ROWS)
def test_rows_are_their_methods_on_the_features_of_the_paper(row):
    method, layout, changes = ROWS[row]
    config = compose_config("train", [f"experiment={row}"])
    assert config.model._target_ == compose_config("train", [f"model={method}"]).model._target_
    asked = set(OmegaConf.missing_keys(config))
    assert asked - OWN_FILES.get(row, set()) == {"data.bank.features", "data.bank.annotations"}
    for name in asked:
        OmegaConf.update(config, name, "given")
    assert departures(config, {**METHODS[method], **changes}) == {}
    assert config.data.bank.layout == layout
    for stage in config.stages or ():
        staged = stage_config(config, stage)
        assert departures(staged, STAGES[stage]) == {}
        assert staged.data.bank == config.data.bank


def test_the_schedules_are_those_of_the_authors():
    for method, expected in METHODS.items():
        config = compose_config("train", [f"model={method}"])
        lr, epochs, found = expected["optimizer.lr"], range(1, expected["trainer.max_epochs"] + 1), []
        optimizer = instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(1))])
        schedule = instantiate(config.scheduler)(optimizer)
        for _ in epochs:
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        if expected["schedule"] == "step":
            size, gamma = expected["scheduler.step_size"], expected["scheduler.gamma"]
            assert found == pytest.approx([lr * gamma ** ((epoch - 1) // size) for epoch in epochs]), method
        else:
            assert found[:10] == pytest.approx([lr * epoch / 10 for epoch in epochs[:10]]), method
            assert found[34] == pytest.approx(lr * (1 + 0.01) / 2), method  # half-way down
            assert found[-1] == pytest.approx(lr / 100), method


@pytest.mark.parametrize("method", DROPOUT)
def test_dropout_has_its_rates_where_the_authors_have_them(method):
    widths = {f"{stream.name}_dim": stream.width for stream in layout_named("llp").features}
    with torch.device("meta"):  # without memory
        network = instantiate(
            compose_config("train", [f"model={method}"]).model, **widths, num_classes=len(LLP_CLASSES), num_segments=10
        )
    found = defaultdict(set)
    for name, module in network.named_modules():
        rates = (getattr(module, attribute, None) for attribute in ("rate", "p", "dropout"))
        found[name.split(".")[0]] |= {rate for rate in rates if isinstance(rate, float) and rate > 0}
    assert {part: rates for part, rates in found.items() if rates} == DROPOUT[method]
