"""The page that compares the methods: it stands on the right records, tells what each cost, and is up to date."""

from omegaconf import OmegaConf

from mmcse.cli import main
from mmcse.configuration import compose_config, config_folder, experiment_folder, experiments
from mmcse.runs.collect import result_of
from mmcse.runs.identity import identifying
from mmcse.runs.methods import methods_page
from mmcse.runs.paper import paper_table, paper_tables
from mmcse.runs.zoo import zoo
from mmcse.stages import stage_config
from runs_made_up import record

ROWS = paper_table("baselines").rows
TRAINED = {run for row in ROWS.values() for run in row.runs if run in experiments()}


def worlds(name, averages, seconds=30.0, **more):
    return [
        result_of(record(name, world=world, avg=avg, seconds={"fit": seconds, "total": 99.0}, **more))
        for world, avg in enumerate(averages)
    ]


def cells(page, label):
    """The row of the first table, by the names of its columns."""
    head, row = (next(line for line in page.splitlines() if line.startswith(f"| {word} |")) for word in ("row", label))
    return dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (head, row)), strict=True))


OWN_RATE = ("leap", "lfav", "lsld", "mgn")
"""Methods that keep their authors' rate, as the rule on the page says."""
MMCSE = worlds("baselines/mmcse", (50.0, 60.0, 70.0))
"""Worlds that differ by ten points."""


def test_a_row_has_its_scores_its_difference_and_its_costs():
    page = methods_page([*MMCSE, *worlds("baselines/han", (45.0, 55.1, 64.9), seconds=70.0)])
    han = cells(page, "HAN")
    assert han["Avg"] == "55.0 ± 10.0"
    assert han["runs"] == "3 worlds x 1 seed"
    assert han["Avg, from MM-CSE, 2 layers"] == "-5.0, lower"  # in pairs: worlds differ more than the methods
    assert (han["parameters"], han["multiply-adds (G)"], han["s an epoch"]) == ("4,241,995", "0.069", "7.0")
    assert cells(page, "MM-CSE, 2 layers")["parameters"] == "3,631,053"
    assert cells(page, "MGN")["Avg"] == "not run"
    assert cells(page, "MGN")["s an epoch"] == ""


def test_an_epoch_of_a_method_is_one_of_each_of_its_stages():
    main_runs = worlds("baselines/ma", (50.0, 60.0), seconds=50.0)
    assert cells(methods_page([*MMCSE, *main_runs]), "MA")["s an epoch"] == ""  # what the first stage took is not known
    first = [run | {"name": "baselines/ma/ma_base", "config": stage("baselines/ma", "ma_base")} for run in main_runs]
    for run, seconds in zip(first, (40.0, 90.0), strict=True):
        run["seconds"] = {"fit": seconds}  # something else ran beside the second
    assert cells(methods_page([*MMCSE, *main_runs, *first]), "MA")["s an epoch"] == "9.0"
    for run in first:
        run["config"]["trainer"]["max_epochs"] = 1  # another stage than the experiment's
    assert cells(methods_page([*MMCSE, *main_runs, *first]), "MA")["s an epoch"] == ""


def stage(experiment, name):
    config = stage_config(compose_config("train", [f"experiment={experiment}"]), name)
    return identifying(OmegaConf.to_container(config, resolve=True))


def test_seconds_come_with_the_machine():
    environment = record()["environment"]
    runs = [
        *worlds("baselines/han", (50.0,), environment=environment | {"processor": "Abacus 3000"}),
        *worlds("baselines/valor", (50.0,), environment=environment | {"processor": "Abacus 3000", "threads": 4}),
        *worlds("precision/float32", (50.0,), environment=environment | {"processor": "of another table"}),
    ]
    assert "Threads of a run: 1 or 4; processor: Abacus 3000." in methods_page(runs)


def test_only_comparable_runs_are_on_it():
    others = [
        *worlds("baselines/han", (1.0,), kind="real"),
        *worlds("baselines/han", (2.0,), overrides=("trainer.max_epochs=1",)),
        *worlds("baselines/han", (3.0,), status="failed", scores={}),
        *worlds("table1/han", (4.0,)),
    ]
    [bigger] = worlds("baselines/han", (5.0,))
    bigger["data"]["source"] = bigger["data"]["source"] | {"train": 10_000}
    assert methods_page([*MMCSE, *others, bigger]) == methods_page(MMCSE)


def test_it_is_marked_simulated_and_has_no_number_of_the_paper():
    made = worlds("baselines/mmcse", (10.0, 20.0, 30.0))
    page = methods_page(made)
    assert page == methods_page(made)
    assert "**SIMULATED" in page
    printed = {f"{row.values[-1]}" for number in "17" for row in paper_tables()[number].rows.values()}
    assert not [number for number in printed if f" {number} " in page]


def test_without_records_it_says_so():
    page = methods_page([])
    assert "no results were collected" in page
    assert cells(page, "HAN")["Avg"] == "not run"


def test_it_has_every_method_of_the_suite():
    shown = {compose_config("train", [f"experiment={name}"]).model._target_ for name in TRAINED}
    models = {file.stem for file in (config_folder() / "model").glob("*.yaml")}
    assert shown == {compose_config("train", [f"model={name}"]).model._target_ for name in models}


def test_all_rows_are_trained_as_the_page_says():
    for name in TRAINED:
        config = compose_config("train", [f"experiment={name}"])
        method = name.removeprefix("baselines/")
        own = compose_config("train", [f"model={method}"]).optimizer.lr if method in OWN_RATE else 5e-4
        assert config.optimizer.lr == own, name
        for part in (config, *(stage.changes for stage in (config.stages or {}).values())):
            assert (part.trainer.max_epochs, part.data.batch_size) == (10, 32), name
            assert part is config or part.get("optimizer", config.optimizer).lr == 5e-4, name
            falls_late = part.scheduler.get("step_size", 0) >= 10
            assert falls_late != (part.scheduler.get("warmup_epochs") == 2), name


def test_networks_and_losses_are_those_of_the_paper_s_rows_but_for_what_the_page_says():
    of_features = {"lsld": {"num_layers", "motion"}, "leap": {"label_embeddings"}, "mmcse": {"num_layers"}}
    made_here = {"cmpae": {"noise_ratios"}}  # by a stage of the run; the row on LLP takes those of its authors
    for method in zoo()["methods"]:
        name, row = method["model"], method["rows"][0]
        here, there = (compose_config("train", [f"experiment={e}"]) for e in (f"baselines/{name}", f"table{row}"))
        changed = {key for key in here.model.keys() | there.model.keys() if _differ(here.model, there.model, key)}
        assert changed <= of_features.get(name, set()), name
        changed = {key for key in here.objective if _differ(here.objective, there.objective, key)}
        assert changed - {"initial_epochs", "warm_up"} <= made_here.get(name, set()), name  # those count in epochs


def _differ(here, there, key):
    return OmegaConf.to_container(here).get(key) != OmegaConf.to_container(there).get(key)


def test_the_shipped_page_is_up_to_date_and_one_that_is_not_is_found(tmp_path):
    shipped, page = experiment_folder().parent / "docs" / "methods-on-simllp.md", tmp_path / "page.md"
    command = ["report", "--results", str(experiment_folder() / "results"), "--check", "--methods"]
    assert main([*command, str(shipped)]) == 0
    page.write_text(shipped.read_text().replace("SIMULATED", "REAL"))
    assert main([*command, str(page)]) == 1
