"""Too few images are refused before any work, few ones marked; pictures share the range of real images."""

import numpy as np
import pytest
from pydantic import ValidationError

from harness.dataset import Dataset, Split
from harness.errors import InputError
from harness.plan import Request, make_plan
from harness.suites.generation import Settings, complete_settings, data_facts


def dataset(train, validation, test, scale=255):
    def split(name, count, seed):
        images = np.random.default_rng(seed).random((count, 1, 8, 8), np.float32) * scale
        return Split(images.astype(np.uint8 if scale > 1 else np.float32), [f"{name}{i}" for i in range(count)])

    return Dataset("photos", split("a", train, 0), split("b", validation, 1), split("c", test, 2), (), (8, 8))


@pytest.mark.parametrize("sizes, words", [((8, 1, 4), "4 test images"), ((4, 1, 9), "4 training images"),
                                          ((9, 1, 1), "1 test image;")])
def test_too_few_images_are_refused_when_runs_are_planned(sizes, words, tmp_path):
    with pytest.raises(InputError, match=f"photos has {words}.* at least 5 to train and 5 to test .15 in all"):
        complete_settings({}, dataset(*sizes), tmp_path)
    with pytest.raises(InputError, match="photos has"):
        make_plan(Request(suite="generation", data=tmp_path, variants=("plain",), profile="smoke"), dataset(*sizes),
                  tmp_path)


def test_five_are_enough_and_marked_and_many_are_not_marked(tmp_path):
    few = dataset(9, 1, 5)
    settings = Settings(**complete_settings({}, few, tmp_path))
    assert data_facts(few, settings) == {"few_samples": {"generated": 5, "train": 9, "features": 64}}
    assert data_facts(dataset(90, 1, 64), settings) == {}
    inception = settings.model_copy(update={"extractor": "inception"})
    assert data_facts(dataset(90, 1, 64), inception)["few_samples"]["features"] == 2048
    with pytest.raises(ValidationError):
        Settings(samples=4)
