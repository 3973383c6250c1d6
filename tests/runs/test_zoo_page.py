"""The model zoo: what it says is what configurations, tests and the paper's tables say, and it is up to date."""

import pytest

from mmcse.cli import main
from mmcse.configuration import compose_config, config_folder, experiment_folder
from mmcse.runs.paper import paper_tables
from mmcse.runs.zoo import zoo

pytestmark = pytest.mark.slow

REPOSITORY = experiment_folder().parent
METHODS = zoo()["methods"]
SWITCHES = [(method["model"], each["switch"]) for method in METHODS for each in method.get("switches", ())]


def test_every_row_of_a_method_in_tables_1_and_7_has_a_method():
    named = {row for method in METHODS for row in method["rows"]}
    assert named | {"7/mmcse"} == {f"{number}/{row}" for number in "17" for row in paper_tables()[number].rows}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["label"])
def test_what_it_refers_to_exists(method):
    assert (REPOSITORY / method["test"]).is_file()
    assert (config_folder() / "model" / f"{method['model']}.yaml").is_file()
    row = method["rows"][0].split("/")[1]
    shipped = compose_config("train", [f"experiment=table{method['rows'][0].split('/')[0]}/{row}"])
    assert shipped.model._target_ == compose_config("train", [f"model={method['model']}"]).model._target_


@pytest.mark.parametrize(("model", "switch"), SWITCHES)
def test_every_switch_is_one_and_is_not_the_default(model, switch):
    usual, switched = compose_config("train", [f"model={model}"]), compose_config("train", [f"model={model}", switch])
    assert usual != switched


def test_the_shipped_page_is_up_to_date_and_one_that_is_not_is_found(tmp_path):
    shipped, page = REPOSITORY / "docs" / "model-zoo.md", tmp_path / "zoo.md"
    assert main(["report", "--model-zoo", str(shipped), "--check"]) == 0
    assert "47,256,068" in shipped.read_text()  # LEAP's parameters, counted
    page.write_text(shipped.read_text().replace("1e-9", "1e-12"))
    assert main(["report", "--model-zoo", str(page), "--check"]) == 1
