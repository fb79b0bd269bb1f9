"""Predictions as files, and a run's own weights: the numbers of the run again, to the last digit."""

import math

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from harness.cli import main
from harness.datasets.parts.predictions import read_prediction
from harness.errors import InputError
from harness.evaluation import evaluate_predictions, evaluate_run
from harness.record import read_records
from harness.run_files import read_rows, read_runs
from harness.spec import DataSpec

SPEC = DataSpec(name="cells")


def values(record):
    return {key: metric.value for key, metric in record.metrics.items()}


def same(one, other):
    assert one.keys() == other.keys()
    assert all(one[key] == other[key] or math.isnan(one[key]) and math.isnan(other[key]) for key in one)


@pytest.fixture
def tools(usual, tiny_data, tmp_path):
    """The data of the usual segmentation run, and folders of predictions: the run's, and the truth itself."""
    made, data = usual("segmentation"), tiny_data("segmentation")
    perfect = tmp_path / "perfect"
    perfect.mkdir()
    for name, mask in zip(data.test.names, data.test.masks, strict=True):
        Image.fromarray(np.asarray(mask)).save(perfect / f"{name}.png")
    return made, data, {"ours": made.folder, "perfect": perfect}


def test_predictions_of_a_run_give_its_numbers_and_the_truth_gives_perfect_ones(tools, tmp_path):
    made, data, folders = tools
    ours, perfect = evaluate_predictions(data, SPEC, folders, tmp_path)
    same(values(ours), values(made.record))
    assert perfect.metrics["dice_macro"].value == 1 and perfect.metrics["hd95_macro"].value == 0
    assert ours.data["evaluated"] == {"split": "test", "cases": len(data.test), "of": len(data.test), "missing": {}}
    assert ours.spec.train.steps == 0 and ours.spec.group_id() == perfect.spec.group_id()
    kept, problems = read_records(tmp_path / "runs")
    assert {record.spec.variant for record in kept} == {"ours", "perfect"} and not problems
    run = next(run for run in read_runs(tmp_path)[0] if run.record.spec.variant == "ours")
    assert [(row["case"], row["value"]) for row in made.rows("cases.csv")][:3] == [
        (case, str(value)) for case, value in read_rows(run, "cases.csv", [])[["case", "value"]].values.tolist()][:3]


def test_tools_are_compared_on_the_cases_that_all_have(tools, tmp_path):
    made, data, folders = tools
    (folders["perfect"] / f"{data.test.names[0]}.png").unlink()
    ours, perfect = evaluate_predictions(data, SPEC, folders, tmp_path)
    count = len(data.test) - 1
    assert ours.data["evaluated"]["cases"] == count and ours.data["evaluated"]["missing"] == {"perfect": 1}
    assert ours.metrics["dice_micro"].n == perfect.metrics["dice_micro"].n == count


def test_tools_without_a_case_in_common_are_refused(tools, tmp_path):
    made, data, folders = tools
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=f"none has no prediction.*{data.test.names[0]}"):
        evaluate_predictions(data, SPEC, {**folders, "none": tmp_path / "none"}, tmp_path)


@pytest.mark.parametrize("suite", ["segmentation", "generation"])
def test_the_weights_of_a_run_give_its_numbers(suite, usual, tiny_data, suites_cache, tmp_path):
    made = usual(suite)
    again = evaluate_run(made.record, tiny_data(suite), made.folder / "model.safetensors", suites_cache, tmp_path)
    same({key: metric.value for key, metric in again.items()}, values(made.record))


def test_weights_on_other_data_are_refused(usual, tiny_data, suites_cache, tmp_path):
    made = usual("segmentation")
    with pytest.raises(InputError, match="not those of the run"):
        evaluate_run(made.record, tiny_data("generation"), made.folder / "model.safetensors", suites_cache, tmp_path)


def saved(path, array):
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    elif path.suffix == ".npz":
        np.savez(path, probabilities=array)
    else:
        np.save(path, array)
    return path


TRUE = np.array([[0, 1], [1, 0]], np.uint8)
LIKELY = np.stack([1.0 - TRUE, TRUE * 1.0]).astype(np.float32)


@pytest.mark.parametrize("name, array", [
    ("a.png", TRUE), ("a.png", TRUE * 255), ("a.npy", TRUE.astype(np.int64)), ("a.npy", LIKELY),
    ("a.npz", LIKELY[:, None]), ("a.npz", LIKELY[None]), ("a.npy", LIKELY[1] * 0.5), ("a.npy", LIKELY[1] - 0.0)])
def test_predictions_in_the_forms_that_tools_write(name, array, tmp_path):
    assert (read_prediction(saved(tmp_path / name, array), (2, 2), 2) == TRUE).all()


@pytest.mark.parametrize("name, array, classes, says", [
    ("a.png", TRUE, 3, None), ("a.png", TRUE * 7, 3, "value 7, which is none of the 3 classes"),
    ("a.png", np.zeros((4, 2), np.uint8), 2, "2 x 4 pixels, but its image is 2 x 2"),
    ("a.npy", LIKELY, 3, "probabilities of 2 classes, not of 3"), ("a.npy", LIKELY[1] * 3, 2, "from 0 to 1"),
    ("a.npy", LIKELY * np.nan, 2, "NaN"), ("a.npy", np.zeros((2, 3, 4, 2, 2)), 2, "shape")])
def test_predictions_that_do_not_fit(name, array, classes, says, tmp_path):
    path = saved(tmp_path / name, array)
    if says is None:
        assert (read_prediction(path, (2, 2), classes) == array).all()
        return
    with pytest.raises(InputError, match=says) as raised:
        read_prediction(path, (2, 2), classes)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("args, says", [
    ((), "--predictions NAME=DIR, or --run RUN"), (("--predictions", "a=x", "--run", "y"), "--run RUN"),
    (("--predictions", "x"), "NAME=DIR"), (("--predictions", "a=x", "--predictions", "a=y"), "'a' is given twice"),
    (("--predictions", "a=x", "--split", "tset"), "did you mean 'test'"),
    (("--run", "nowhere"), "record"), (("--run", "x", "--split", "train"), "--split does not go with --run"),
    (("--predictions", "a=x", "--variant", "y"), "--variant does not go with --predictions")])
def test_what_the_command_refuses(args, says):
    done = CliRunner().invoke(main, ["evaluate", *args])
    assert done.exit_code == 2 and says in done.output and "Traceback" not in done.output
