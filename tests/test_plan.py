"""A command line becomes runs: all arms, all seeds, one budget."""

import math

import pytest

import variants
from harness import suites
from harness.errors import InputError
from harness.plan import (
    Request,
    cell_name,
    check_names,
    data_spec,
    load_data,
    make_plan,
    profile_names,
    read_profile,
    swept,
)
from harness.spec import DataSpec


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("suite", suites.registry.names())
def test_every_shipped_profile_gives_valid_runs(name, suite, tmp_path):
    request = Request(suite=suite, profile=name)
    profile = read_profile(name, suite)
    spec = data_spec(request, profile)
    counts = {key: value for key, value in spec.options.items() if key in ("train", "validation", "test")}
    assert all(count > 0 for count in counts.values())
    few = {**spec.options, **dict.fromkeys(counts, 2)}             # drawing all that a profile asks for takes seconds
    data = load_data(spec.model_copy(update={"options": few}), suite)
    plan = make_plan(request, data, tmp_path)
    named = variants.names() if profile.variants == ("all",) else profile.variants
    cells = math.prod(len(values) for values in profile.sweep.values())
    assert len(plan) == cells * len(named) * profile.seeds
    assert set(named) <= set(variants.names())
    assert len({spec.group_id() for spec in plan}) == cells
    assert len({spec.run_id(code="c", data=data.fingerprint) for spec in plan}) == len(plan)
    assert all(spec.train.precision != "auto" and spec.device in ("cpu", "cuda", "mps") for spec in plan)


def test_three_profiles_ship():
    assert profile_names() == ["quick", "smoke", "standard"]


def test_all_means_every_registered_network_once(tmp_path):
    request = Request(suite="generation", variants=("dit", "all"))
    data = load_data(data_spec(request, read_profile("quick", "generation")), "generation")
    names = [spec.variant for spec in make_plan(request, data, tmp_path)]
    assert names[0] == "dit" and sorted(names) == variants.names()


def test_seeds_are_shared_by_arms_and_whole_comparisons_come_first(tmp_path):
    request = Request(suite="generation", variants=("plain", "dit"), seeds=2)
    data = load_data(data_spec(request, read_profile("quick", "generation")), "generation")
    plan = make_plan(request, data, tmp_path)
    assert [(s.variant, s.seeds.init) for s in plan] == [("plain", 0), ("dit", 0), ("plain", 1), ("dit", 1)]
    assert all(s.seeds.init == s.seeds.data == s.seeds.sampling for s in plan)


def test_a_data_set_of_ones_own_choice_does_not_get_the_profiles_options(tmp_path):
    profile = read_profile("smoke", "segmentation")
    assert profile.data_options and data_spec(Request(suite="segmentation"), profile).options == profile.data_options
    assert data_spec(Request(suite="segmentation", dataset="cells"), profile).options == {}
    own = data_spec(Request(suite="segmentation", data=tmp_path), profile)
    assert own.name == "folder" and own.root == str(tmp_path) and own.options == {}


def test_what_a_suite_completes_and_accepts_is_its_own_affair(tmp_path):
    from harness.plan import accepted
    assert accepted("generation") == ("inception_weights",) and accepted("segmentation") == ()
    request = Request(suite="segmentation", variants=("plain",), inception_weights=tmp_path)
    with pytest.raises(InputError, match="--inception-weights: there is no file"):
        check_names(request)
    (tmp_path / "w.pth").touch()
    with pytest.raises(InputError, match="--inception-weights .*generation.*segmentation"):
        check_names(Request(suite="segmentation", inception_weights=tmp_path / "w.pth"))


def test_settings_that_do_not_fit_each_other_are_one_line(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "generation: {dataset: digits, train: {steps: 1, batch_size: 2, learning_rate: 0.1},"
        " settings: {sampler: ddpm, eta: 1.0}}")
    request = Request(suite="generation", profile=str(tmp_path / "mine.yaml"))
    data = load_data(data_spec(request, read_profile(request.profile, "generation")), "generation")
    with pytest.raises(InputError, match=r"generation.settings: eta 1.0 is for the sampler 'ddim'; 'ddpm' has none$"):
        make_plan(request, data, tmp_path)


def test_grey_images_get_a_classifier_as_extractor(tmp_path):
    request = Request(suite="generation", variants=("plain",))
    data = load_data(data_spec(request, read_profile("quick", "generation")), "generation")
    assert make_plan(request, data, tmp_path)[0].settings["extractor"] == "classifier"


SWEPT = """
efficiency:
  dataset: noise
  variants: [plain, fcn]
  train: {steps: 1, batch_size: 2, learning_rate: 0.1}
  settings: {warmup: 1}
  sweep:
    settings.image_size: [16, 32]
    train.precision: [fp32, bf16]
"""


def planned(tmp_path, content, suite="efficiency", **asked):
    (tmp_path / "mine.yaml").write_text(content)
    request = Request(suite=suite, profile=str(tmp_path / "mine.yaml"), device="cpu", **asked)
    check_names(request)
    profile = read_profile(request.profile, suite)
    data = load_data(data_spec(request, profile), suite)
    return make_plan(request, data, tmp_path / "cache"), swept(request, profile)


def cells_of(plan):
    return [(run.settings["image_size"], run.train.precision, run.seeds.init, run.variant) for run in plan]


def test_a_sweep_is_every_combination_size_by_size_each_for_every_variant_and_seed(tmp_path):
    plan, sweep = planned(tmp_path, SWEPT, seeds=2)
    assert cells_of(plan) == [(size, precision, seed, variant) for size in (16, 32) for precision in ("fp32", "bf16")
                              for seed in (0, 1) for variant in ("plain", "fcn")]
    assert len({run.group_id() for run in plan}) == 4
    assert all(run.settings["warmup"] == 1 and run.train.batch_size == 2 for run in plan)
    assert cell_name(plan[0], sweep) == "image_size 16, precision fp32" and cell_name(plan[0], {}) == ""


def test_a_precision_that_is_asked_for_takes_the_place_of_the_profiles(tmp_path):
    plan, sweep = planned(tmp_path, SWEPT, precision="bf16")
    assert cells_of(plan) == [(size, "bf16", 0, variant) for size in (16, 32) for variant in ("plain", "fcn")]
    assert list(sweep) == ["settings.image_size"]
    fixed = SWEPT.partition("  sweep")[0] + "  precision: bf16\n"
    assert {run.train.precision for run in planned(tmp_path, fixed)[0]} == {"bf16"}
    assert {run.train.precision for run in planned(tmp_path, fixed, precision="fp32")[0]} == {"fp32"}


def test_any_suite_can_be_swept(tmp_path):
    plan, _ = planned(tmp_path, "generation: {dataset: digits, variants: [plain], train: {steps: 1, batch_size: 2, "
                                "learning_rate: 0.1}, sweep: {train.learning_rate: [0.1, 0.2], settings.eta: [0, 1]}}",
                      suite="generation")
    assert [(run.train.learning_rate, run.settings["eta"]) for run in plan] == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]


@pytest.mark.parametrize("entry, words", [
    ("settings.imag_size: [16]", ("'settings.imag_size'", "'settings.image_size'")),
    ("train.batchsize: [1]", ("'train.batchsize'", "'train.batch_size'")), ("image_size: [16]", ("'image_size'",)),
    ("settings.repeats: [1]", ("repeats: ", "equal to 2")),
    ("settings.repeats: []", ("settings.repeats: ", "at least 1")),
    ("settings.repeats: 3", ("settings.repeats: ", "list")), ("train.batch_size: [1, 2, 1]", ("1 ", "twice")),
    ("train.batch_size: [two]", ("batch_size: ", "integer"))])
def test_a_sweep_that_does_not_fit_is_one_line_with_its_place(entry, words, tmp_path):
    content = SWEPT.replace("settings.image_size: [16, 32]", entry)
    with pytest.raises(InputError) as raised:
        planned(tmp_path, content)
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / 'mine.yaml'}:8: ") and all(word in text for word in words) and "\n" not in text


@pytest.mark.parametrize("asked", [{"precision": "fp16"}, {}])
def test_half_precision_with_five_bits_of_exponent_needs_a_gpu(asked, tmp_path):
    content = SWEPT if asked else SWEPT.replace("[fp32, bf16]", "[fp32, fp16]")
    with pytest.raises(InputError, match="fp16 .*GPU.* fp32 or bf16"):
        planned(tmp_path, content, **asked)


def test_unknown_precision():
    with pytest.raises(InputError, match="unknown precision 'fp61'; did you mean 'fp16'"):
        check_names(Request(suite="efficiency", precision="fp61"))


def test_a_data_set_serves_every_suite_whose_fields_it_holds():
    for dataset, suite in (("digits", "generation"), ("digits", "efficiency"), ("cells", "generation"),
                           ("cells", "segmentation"), ("noise", "generation")):
        check_names(Request(suite=suite, dataset=dataset))
    with pytest.raises(InputError, match="'digits' .*masks.*segmentation.*cells, digit_scenes, folder$"):
        check_names(Request(suite="segmentation", dataset="digits"))
    with pytest.raises(InputError, match="'digits': .*'colour'"):
        load_data(DataSpec(name="digits", options={"colour": 1}), "generation")
