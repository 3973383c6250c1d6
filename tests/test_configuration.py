"""Every shipped configuration composes and fits; every mistake is answered with the nearest right word."""

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mmcse.configuration import check_calls, compose_config, config_folder, experiments
from mmcse.errors import UserError
from mmcse.objectives import MMCSEObjective
from mmcse.vocabulary import LLP_CLASSES

GROUPS = [
    f"{file.parent.name}={file.stem}"
    for file in sorted(config_folder().glob("*/*.yaml"))
    if file.parent.name not in ("logger", "thresholds")
]
THRESHOLDS = [file.stem for file in sorted((config_folder() / "thresholds").glob("*.yaml"))]


@pytest.mark.parametrize("choice", GROUPS)
def test_every_option_of_every_group_composes_and_fits_its_signatures(choice):
    given = {"data=bank": ["data.bank=x"], "stages=released_ratios": ["model=jomold"]}.get(choice, [])
    if choice.startswith("data=llp"):
        given = ["data.bank.features=x", "data.bank.annotations=y"]
    config = compose_config("train", [choice, *given])
    OmegaConf.resolve(config)
    check_calls(config)
    assert config.run.name
    assert config.evaluation.gate


@pytest.mark.parametrize("name", THRESHOLDS)
def test_all_released_thresholds_are_of_a_method_and_one_for_each_class(name):
    config = compose_config("eval", ["checkpoint=x", f"thresholds={name}"])
    assert (config_folder() / "model" / f"{name}.yaml").is_file()
    assert len(config.visual_thresholds) == len(LLP_CLASSES)
    assert config.gate_threshold == compose_config("train", [f"model={name}"]).evaluation.gate_threshold


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_composes_fits_and_says_what_it_is(name):
    config = compose_config("train", [f"experiment={name}"])
    check_calls(config)
    assert config.run.name == name
    header = experiments()[name].read_text()
    assert header.startswith("# ")
    assert f"mmcse train experiment={name}" in header


def test_defaults_are_the_recipe_of_the_paper():
    config = compose_config("train")
    assert (config.trainer.max_epochs, config.data.batch_size, config.seed) == (60, 64, 87)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (3e-4, 1e-3)
    assert config.model.num_layers == 4
    objective = instantiate(config.objective)
    assert isinstance(objective, MMCSEObjective)
    assert objective.weights == {"reconstruction": 1.0, "orthogonality": 0.1, "cooccurrence": 0.1}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.num_layer=2", "There is no key 'num_layer' in model. Did you mean 'num_layers'?"),
        ("trainer.max_epoch=2", "Did you mean 'max_epochs'?"),
        ("run.nam=x", "There is no key 'nam' in run. Did you mean 'name'?"),
        ("sed=1", "There is no key 'sed' in the configuration. Did you mean 'seed'?"),
        ("model=mmsce", "There is no 'model/mmsce'. Did you mean 'mmcse'?"),
        ("experiment=quickstrat", "Did you mean 'quickstart'?"),
        ("seed=many", "could not be converted to Integer"),
        ("seed", "missing EQUAL"),
        ("scheduler=null", "scheduler is chosen by a name, not by null. Available: step, warmup_cosine."),
        ("+experiment=7", "+experiment is chosen by a name, not by 7. Available: baselines/cmpae, "),
        ("~run.name" + 300 * "e", "it has 309 letters. Expected key=value"),
        ("seed=" + 5000 * "9", "more than 1000 digits"),
    ],
)
def test_mistakes_in_overrides_are_answered_with_the_near_miss(override, said):
    with pytest.raises(UserError) as error:
        compose_config("train", [override])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "+model.hidden_dims=3",
            "takes no argument 'hidden_dims' (set at model.hidden_dims). Did you mean 'hidden_dim'?",
        ),
        ("model.num_layers=four", "model.num_layers is 'four'; expected int"),
        ("model.secm=1", "model.secm is 1; expected bool"),
        ("optimizer.lr=high", "optimizer.lr is 'high'; expected float"),
        ("model.decoupling=all", "expected 'none' or 'events' or 'events+background'"),
        ("objective.cooccurrence=null", "objective.cooccurrence is None; expected float"),
        ("optimizer._target_=os.system", "outside the trusted packages"),
        ("optimizer._target_=torch.optim.AdamX", "cannot be imported"),
        ("model._target_=mine.Network", "packages=[mine]"),
    ],
)
def test_values_are_checked_against_signatures_before_anything_is_built(override, said):
    with pytest.raises(UserError) as error:
        check_calls(compose_config("train", [override]))
    assert said in str(error.value)


def test_own_packages_can_be_trusted():
    node = {"_target_": "fractions.Fraction", "numerator": 1}
    check_calls(OmegaConf.create({"packages": ["fractions"], "model": node}))
    with pytest.raises(UserError, match="trusted"):
        check_calls(OmegaConf.create({"model": node}))
