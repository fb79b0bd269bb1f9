"""The command line by hand: what it prints, and one line with exit code 2 for what it cannot take."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic_records as synthetic
from click.testing import CliRunner
from command_line import bench, refused
from PIL import Image

from harness.cli import main
from harness.terminal import REPLACED

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("args", [("--help",), ("list",), ()])
def test_help_and_list_do_not_wait_for_torch_or_pandas(args):
    code = ("import sys; from harness.cli import main\ntry:\n    main(sys.argv[1:], prog_name='bench.py')\n"
            "except SystemExit as e:\n    assert not e.code\n"
            "heavy = {'torch', 'pandas', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_list_names_everything():
    output = bench("list").output
    for name in ("plain", "no_skip", "residual", "attention_gate", "cross_attention", "dit", "fcn",
                 "segmentation", "generation", "efficiency", "noise", "digits", "digit_scenes", "cells", "mnist",
                 "smoke", "quick", "standard"):
        assert name in output


@pytest.mark.parametrize("charset", ["cp1252", "ascii"])
def test_a_terminal_without_these_letters_gets_others(charset, tmp_path):
    out = tmp_path / "café"
    synthetic.write_output(out, suites=("generation",), seeds=2, variants=("plain", "no_skip"), failures=False,
                           pictures=False, curves=False)
    result = CliRunner(charset=charset).invoke(main, ["report", str(out)])
    assert result.exit_code == 0, result.output
    words = {"ascii": r"caf\xe9", "cp1252": "café"}[charset]
    assert words in result.stdout.replace("\n", "") and "plain" in result.stdout


def test_in_ascii_a_number_keeps_its_sign():
    shown = "−0.05 ± 0.01 → ≤ 3 µs, é\N{NO-BREAK SPACE}↑"
    assert shown.encode("ascii", REPLACED) == rb"-0.05 +- 0.01 -> <= 3 us, \xe9 ^"


def test_options_that_would_be_ignored_are_refused():
    refused(bench("--suite", "generation", "list"), "--suite", "'list'")
    refused(bench("--jobs", "2", "report", "results"), "--jobs", "'report'")
    refused(bench("--variants", "plain"), "--variants needs --suite")


def test_an_error_of_a_name_with_a_line_break_is_one_line():
    refused(bench("--suite", "generation", "--variant", "a\nb.py:Net"), r"there is no file a\nb.py")


def test_a_network_file_that_is_not_python_is_refused_before_any_run(tmp_path):
    folder(tmp_path, count=9)
    (tmp_path / "mine.py").write_text("class Mine\n")
    refused(segment(tmp_path, "--variant", tmp_path / "mine.py:Mine"), "mine.py:1 is not Python")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("args, words", [
    (("--suite", "segmentatoin"), ("unknown suite", "did you mean 'segmentation'")),
    (("--suite", "generation", "--variants", "plain,no_skp"), ("unknown variant", "did you mean 'no_skip'")),
    (("--suite", "generation", "--dataset", "digit"), ("unknown data set", "did you mean 'digits'")),
    (("--suite", "generation", "--profile", "quik"), ("unknown profile", "did you mean 'quick'")),
    (("--suite", "generation", "--profile", "absent.yaml"), ("absent.yaml", "No such file")),
    (("--suite", "generation", "--device", "cdua"), ("unknown device", "did you mean 'cuda'")),
    (("--suite", "efficiency", "--precision", "fp23"), ("unknown precision", "did you mean 'fp32'")),
    (("--suite", "segmentation", "--dataset", "noise"), ("'noise' has no masks, which segmentation needs", "cells")),
    (("--suite", "gen"), ("unknown suite", "did you mean 'generation'")),
    (("--suite", "generation", "--seeds", "0"), ("--seeds", "at least 1")),
    (("--suite", "segmentation", "--dataset", "digits"), ("'digits' has no masks", "digit_scenes")),
    (("--suite", "generation", "--dataset", "digits", "--data", "x"), ("give one of them",)),
    (("--suite", "generation", "--variant", "absent.py:Net"), ("no file absent.py",)),
    (("--suite", "generation", "--inception-weights", "absent.pth"), ("no file absent.pth",)),
    (("--suite", "segmentation", "--inception-weights", __file__), ("generation suite",))])
def test_wrong_names(args, words):
    refused(bench(*args), *words)


@pytest.mark.parametrize("content, words", [
    ("a: [", ("not YAML",)), ("3", ("mine.yaml:1", "expected a mapping")),
    ("segmentation: {}", ("no part for the suite",)),
    ("generation: {dataset: digits, trian: {}}", ("unknown entry 'trian'", "did you mean 'train'")),
    ("generation: {dataset: digits, train: {steps: 0, batch_size: 1, learning_rate: 1}}", ("train.steps",))])
def test_profile_that_does_not_fit(content, words, tmp_path):
    (tmp_path / "mine.yaml").write_text(content)
    refused(bench("--suite", "generation", "--profile", tmp_path / "mine.yaml"), "mine.yaml", *words)


def test_profile_without_a_data_set_needs_one_from_the_command_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("generation: {train: {steps: 1, batch_size: 1, learning_rate: 1}}")
    command = ("--suite", "generation", "--profile", tmp_path / "mine.yaml")
    refused(bench(*command), "names no data set for generation", "--data")
    refused(bench(*command, "--data", tmp_path / "absent"), "absent")


def test_profile_with_an_unknown_data_set(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "generation: {dataset: digts, train: {steps: 1, batch_size: 1, learning_rate: 1}}")
    refused(bench("--suite", "generation", "--profile", tmp_path / "mine.yaml"), "data set", "did you mean 'digits'")


def folder(tmp_path, count=3, size=(16, 16), mask_size=None):
    for part, side in (("images", size), ("masks", mask_size or size)):
        (tmp_path / part).mkdir()
        for i in range(count):
            Image.fromarray(np.full(side, 255 * (i % 2), np.uint8)).save(tmp_path / part / f"{i}.png")
    return tmp_path


def segment(tmp_path, *more):
    return bench("--suite", "segmentation", "--data", tmp_path, "--out", tmp_path / "out", "--profile", "smoke", *more)


def test_image_without_mask(tmp_path):
    folder(tmp_path)
    (tmp_path / "masks/1.png").unlink()
    refused(segment(tmp_path), "1.png", "mask")


def test_mask_class_outside_the_range(tmp_path):
    folder(tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(tmp_path / "masks/2.png")
    refused(segment(tmp_path), "2.png", "7")


def test_unequal_sizes(tmp_path):
    folder(tmp_path)
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(tmp_path / "masks/2.png")
    refused(segment(tmp_path), "2.png")


@pytest.mark.parametrize("keep", [0, 40])
def test_truncated_image(tmp_path, keep):
    folder(tmp_path)
    path = tmp_path / "images/2.png"
    path.write_bytes(path.read_bytes()[:keep])
    refused(segment(tmp_path), "2.png")


def test_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    refused(segment(tmp_path), str(tmp_path))
    refused(bench("--suite", "generation", "--data", tmp_path / "images", "--out", tmp_path / "out"), "images")


def test_one_single_image(tmp_path):
    refused(segment(folder(tmp_path, count=1)), "3")


def test_absent_folder(tmp_path):
    refused(segment(tmp_path / "absent"), "absent")


def test_results_folder_that_cannot_be_written(tmp_path):
    folder(tmp_path)
    (tmp_path / "out").write_text("in the way")
    refused(segment(tmp_path), "cannot be written")


def test_absent_real_set_says_where_it_should_lie(tmp_path):
    refused(bench("--suite", "generation", "--dataset", "mnist", "--data-root", tmp_path, "--out", tmp_path / "out"),
            "MNIST", "--download")


def test_inception_without_weights_says_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    (tmp_path / "mine.yaml").write_text(
        "generation: {dataset: digits, train: {steps: 1, batch_size: 2, learning_rate: 0.1},"
        " settings: {extractor: inception}}")
    refused(bench("--suite", "generation", "--profile", tmp_path / "mine.yaml", "--out", tmp_path / "out"),
            "--inception-weights", "inception")


def test_wrong_inception_weights_are_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"not weights")
    refused(bench("--suite", "generation", "--inception-weights", tmp_path / "weights.pth", "--out", tmp_path / "out"),
            "weights.pth")


def test_device_that_is_not_there(tmp_path):
    import torch
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    refused(bench("--suite", "generation", "--device", "cuda", "--out", tmp_path), "'cuda'", "--device cpu")


def test_precision_that_the_device_lacks(tmp_path):
    refused(bench("--suite", "efficiency", "--variants", "plain", "--device", "cpu", "--precision", "fp16", "--out",
                  tmp_path / "out"), "fp16 needs a GPU", "use fp32 or bf16")
    assert not (tmp_path / "out").exists()


def test_report_of_no_results(tmp_path):
    refused(bench("report", tmp_path), "runs")


MINE = """
from torch import nn
class Mine(nn.Module):
    def __init__(self, *, in_channels, out_channels, image_size, width=8, time=False, context_dim=None):
        super().__init__()
        self.net = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    def forward(self, x, t=None, context=None):
        return self.net(x)
"""


def test_a_whole_comparison_with_a_network_written_elsewhere(tmp_path):
    """Run, look, run again, spoil a record: each step as a person would take it."""
    folder(tmp_path, count=9)
    (tmp_path / "mine.py").write_text(MINE)
    args = ("--variants", "plain", "--variant", tmp_path / "mine.py:Mine", "--in-process")
    first = segment(tmp_path, *args)
    assert first.exit_code == 0, first.output
    out = tmp_path / "out"
    for name in ("table.csv", "table.md", "table.tex", "report.html"):
        assert (out / name).stat().st_size > 0
    assert list((out / "plots").glob("*.png"))
    assert "plain" in first.output and "Mine" in first.output

    again = segment(tmp_path, *args)
    assert again.exit_code == 0 and again.output.count("kept from an earlier call") == 2

    record = next((out / "runs").glob("*/record.json"))
    record.write_text("{")
    spoiled = bench("report", out)
    assert spoiled.exit_code == 2 and record.parent.name in spoiled.output and "report.html" in spoiled.output
    assert record.read_text() == "{"


def test_a_run_that_fails_is_a_row_and_exit_code_2(tmp_path):
    folder(tmp_path, count=9)
    (tmp_path / "mine.py").write_text("def build(**kwargs):\n    raise RuntimeError('out of luck')\n")
    result = segment(tmp_path, "--variants", "plain", "--variant", tmp_path / "mine.py:build", "--in-process")
    assert result.exit_code == 2 and "failed" in result.stderr and "out of luck" in result.stderr
    assert "plain" in result.output and (tmp_path / "out/report.html").exists()
