"""A command line becomes runs: all arms, all seeds, one budget."""

import pytest

import variants
from harness.errors import InputError
from harness.plan import Request, check_names, data_spec, load_data, make_plan, profile_names, read_profile


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("suite", ["segmentation", "generation"])
def test_every_shipped_profile_gives_valid_runs(name, suite, tmp_path):
    request = Request(suite=suite, profile=name)
    data = load_data(data_spec(request, read_profile(name, suite)), suite)
    plan = make_plan(request, data, tmp_path)
    profile = read_profile(name, suite)
    assert len(plan) == len(profile.variants) * profile.seeds
    assert set(profile.variants) <= set(variants.names())
    assert len({spec.group_id() for spec in plan}) == 1
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
    with pytest.raises(InputError, match="--inception-weights is for the generation suite, not for segmentation"):
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
