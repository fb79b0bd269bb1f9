"""The efficiency suite: every network in a tiny cell, its step against one written by hand, its numbers against each
other."""

import csv
import functools
import math
import shutil
import statistics

import pytest
import torch
from command_line import bench
from torch import nn

import harness.run
import variants
from harness import suites
from harness.datasets import noise
from harness.execute import execute
from harness.execution import Execution
from harness.identity.sources import ROOT, code_fingerprint
from harness.measurement.energy import EnergyCounter
from harness.measurement.roofline import Roofline
from harness.record import read_record
from harness.spec import DataSpec, RunSpec, Seeds, TrainSpec
from harness.suites import Job, efficiency
from harness.training.device import default_precision
from harness.training.train import Runtime, make_accelerator

BATCH, SIDE, REPEATS = 2, 16, 3
MACHINE = Roofline(flops_per_s=1e11, bytes_per_s=1e10)
ALWAYS = [name for name in efficiency.METRICS if name not in ("energy_j_per_image", "compile_s")]


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    """Without seconds of measuring what it can do, and without whatever counts its energy."""
    monkeypatch.setattr(efficiency, "roofline", lambda device, precision, cache: MACHINE)
    monkeypatch.setattr(efficiency, "energy_counter", lambda device: None)


def make_spec(variant="plain", *, batch=BATCH, precision="fp32", compile=False, options=None, **settings):
    settings = {"image_size": SIDE, "warmup": 1, "repeats": REPEATS, **settings}
    train = TrainSpec(steps=1, batch_size=batch, learning_rate=1e-3, weight_decay=1e-2, precision=precision,
                      compile=compile)
    return RunSpec(suite="efficiency", variant=variant, options=options or {"width": 4}, data=DataSpec(name="noise"),
                   train=train, settings=efficiency.Settings(**settings).model_dump())


def run(spec, tmp_path):
    record = harness.run.run(spec, noise.load(()), tmp_path / "runs", tmp_path / "cache", code="c")
    return record, tmp_path / "runs" / record.run_id


def measured(spec, tmp_path):
    record, folder = run(spec, tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    return {name: metric.value for name, metric in record.metrics.items()}


@pytest.mark.parametrize("variant", variants.names())
def test_every_network_leaves_a_whole_record(variant, tmp_path):
    record, folder = run(make_spec(variant), tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    found = {name: metric.value for name, metric in read_record(folder).metrics.items()}
    assert list(found) == ALWAYS and all(math.isfinite(value) for value in found.values())
    assert all(value > 0 for name, value in found.items() if not name.endswith("_iqr_ms"))
    for name, metric in record.metrics.items():
        assert (metric.label, metric.unit, metric.direction) == efficiency.METRICS[name]
        assert {"batch_size": BATCH, "image": [SIDE, SIDE], "precision": "fp32", "channels_last": True, "time": True,
                "compile": False, "fused": True, "threads": torch.get_num_threads()}.items() <= metric.protocol.items()
    assert set(record.cost) == {"parameters", "macs", "flops"} and not (folder / "model.safetensors").exists()
    assert found["memory_predicted_bytes"] == pytest.approx(found["memory_bytes"], rel=0.15)    # small: scratch counts


def test_numbers_follow_from_each_other_and_from_every_timed_call(tmp_path):
    record, folder = run(make_spec(), tmp_path)
    found = {name: metric.value for name, metric in record.metrics.items()}
    with open(folder / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    flops = BATCH * record.cost["flops"].value
    attainable = MACHINE.attainable(found["intensity"])
    for name, curve, throughput, work in (("step", "training step ms", "train_images_per_s", 3 * flops),
                                          ("forward", "forward ms", "inference_images_per_s", flops)):
        each = [(int(row["step"]), float(row["value"])) for row in rows if row["name"] == curve]
        assert [step for step, _ in each] == [1, 2, 3] and record.metrics[f"{name}_ms"].n == REPEATS
        ms = statistics.median(value for _, value in each)
        assert found[f"{name}_ms"] == pytest.approx(ms)
        assert found[throughput] == pytest.approx(1e3 * BATCH / ms)
        assert found[f"{name}_flops_per_s"] == pytest.approx(1e3 * work / ms)
        assert found[f"roofline_share_{name}"] == pytest.approx(1e3 * work / ms / attainable)
    assert "100 GFLOP/s, 10 GB/s" in record.metrics["roofline_share_step"].protocol["roofline"]


def test_memory_by_hand(tmp_path):
    """A network of one convolution: weights, gradients, two values of AdamW; the batch; what backward needs."""
    (tmp_path / "one.py").write_text(
        "from torch import nn\nclass One(nn.Conv2d):\n    def __init__(self, in_channels, out_channels, **others):\n"
        "        super().__init__(in_channels, out_channels, 1, bias=False)\n"
        "    def forward(self, x, t=None, context=None):\n        return super().forward(x)\n")
    found = measured(make_spec(f"{tmp_path}/one.py:One", options={}, time=False), tmp_path)
    weights, images = 4 * 3 * 3, 4 * BATCH * 3 * SIDE * SIDE
    assert found["memory_parameters_bytes"] == found["memory_gradients_bytes"] == weights
    assert found["memory_optimizer_bytes"] == 2 * weights + 4           # and a count of steps
    assert images < found["memory_activations_bytes"] <= 2 * images     # the output; the loss, made from as large a map
    assert found["memory_inference_bytes"] == pytest.approx(weights + 2 * images, rel=0.01)
    assert found["memory_bytes"] >= 3 * weights + 4 * images            # image, target, output and its gradient


def workload(spec, model):
    accelerator = make_accelerator("cpu", spec.train.precision)
    job = Job(spec=spec, settings=efficiency.Settings(**spec.settings), data=None, model=model,
              runtime=Runtime(accelerator), memory=None, folder=None, cache=None)
    return efficiency.Workload(job)


def build(**changes):
    torch.manual_seed(0)
    return variants.build("plain", **{"in_channels": 3, "out_channels": 3, "image_size": SIDE, "width": 4, "time": True,
                                      **changes})


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_is_the_one_that_training_takes(fused):
    spec, ours, by_hand = make_spec(fused=fused), build(), build()
    work = workload(spec, ours)
    by_hand.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(3):
        work.step()
        loss = ((by_hand(work.x, work.t) - work.target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), spec.train.max_grad_norm)
        optimizer.step()
    for got, expected in zip(ours.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


def test_a_step_and_a_forward_pass_are_in_the_precision_asked_for():
    seen = []
    model = build()
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda module, args, out: seen.append((out.dtype, torch.is_inference_mode_enabled(),
                                                                       module.training)))
    work = workload(make_spec(precision="bf16"), model)
    work.step()
    work.forward()
    assert seen == [(torch.bfloat16, False, True), (torch.bfloat16, True, False)]
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("settings, layout, told", [({}, torch.channels_last, True),
                                                    ({"channels_last": False}, torch.contiguous_format, True),
                                                    ({"time": False}, torch.channels_last, False)])
def test_layout_and_time_step_are_what_the_settings_say(settings, layout, told):
    model = build(time=told)
    work = workload(make_spec(**settings), model.to(memory_format=torch.channels_last))
    assert work.x.is_contiguous(memory_format=layout) and work.target.is_contiguous(memory_format=layout)
    kernels = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
    assert kernels and all(p.is_contiguous(memory_format=layout) for p in kernels)
    assert (work.t is not None) == told
    work.step()


def test_seeds_give_the_batch():
    first, again = (workload(make_spec(), build()) for _ in range(2))
    other = workload(make_spec().model_copy(update={"seeds": Seeds(data=1)}), build())
    assert torch.equal(first.x, again.x) and torch.equal(first.t, again.t) and not torch.equal(first.x, other.x)
    assert not torch.equal(first.x, first.target)


def test_eager_attention_keeps_its_scores_and_is_not_predicted(tmp_path):
    fused, eager = (measured(make_spec("dit", fused=fused, image_size=32, options={"width": 16, "depth": 2}), tmp_path)
                    for fused in (True, False))
    assert eager["memory_activations_bytes"] > 1.2 * fused["memory_activations_bytes"]
    assert eager["intensity"] < fused["intensity"]
    assert "memory_predicted_bytes" in fused and "memory_predicted_bytes" not in eager


def test_half_precision_keeps_less_and_is_predicted(tmp_path):
    full, half = (measured(make_spec(precision=precision, batch=4), tmp_path) for precision in ("fp32", "bf16"))
    assert half["memory_activations_bytes"] < 0.8 * full["memory_activations_bytes"]
    assert half["memory_parameters_bytes"] == full["memory_parameters_bytes"]
    assert full["memory_predicted_bytes"] == pytest.approx(full["memory_bytes"], rel=0.1)
    # the scratch space of bf16 kernels is not predicted; processors without bf16 take more of it than a tenth
    native = default_precision("cpu") == "bf16"
    assert (0.9 if native else 0.5) * half["memory_bytes"] < half["memory_predicted_bytes"] < 1.1 * half["memory_bytes"]


def test_energy_only_where_it_is_counted(tmp_path, monkeypatch):
    used = [0.0]

    def joules():
        used[0] += 6.0
        return used[0]

    calls = []
    monkeypatch.setattr(efficiency, "energy_counter", lambda device: EnergyCounter("my counter", joules))
    monkeypatch.setattr(efficiency, "energy_per_call", lambda call, counter, device: calls.append(call()) or (6.0, 1))
    record, _ = run(make_spec(), tmp_path)
    assert record.metrics["energy_j_per_image"].value == 6.0 / BATCH and calls
    assert record.metrics["energy_j_per_image"].protocol["counter"] == "my counter"


def compiled_by(monkeypatch, backend):
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend=backend))


def test_compiled_runs_say_how_long_compiling_took(tmp_path, monkeypatch):
    graphs = []
    compiled_by(monkeypatch, lambda graph, inputs: graphs.append(graph) or graph.forward)
    record, folder = run(make_spec(compile=True), tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    assert graphs and record.metrics["compile_s"].value > 0
    assert record.metrics["compile_s"].protocol["kernels"] == "0 of 0 graphs from the cache"
    assert record.metrics["step_ms"].protocol["compile"] is True and "memory_predicted_bytes" not in record.metrics


def test_no_compiler_is_a_row_with_its_reason(tmp_path, monkeypatch):
    def absent(graph, inputs):
        raise OSError("no C++ compiler was found")

    compiled_by(monkeypatch, absent)
    record, _ = run(make_spec(compile=True), tmp_path)
    assert record.status == "failed" and "torch.compile" in record.error
    assert "no C++ compiler was found" in record.error and record.cost["macs"].value > 0


def test_a_cell_that_does_not_fit_is_a_row_and_the_others_go_on(tmp_path):
    plan = [make_spec(batch=batch) for batch in (1, 2 ** 36, 2)]        # 211 TB: more than processors can address
    records = execute(plan, noise.load(()), tmp_path, how=Execution(in_process=True))
    assert [record.status for record in records] == ["ok", "oom", "ok"]
    assert "out of memory" in records[1].error and records[1].metrics == {} and records[1].cost["parameters"].value > 0


def test_what_measures_is_part_of_the_codes_fingerprint(tmp_path):
    for folder in ("variants", "harness"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    known = {code_fingerprint("plain", "efficiency")}
    assert known == {code_fingerprint("plain", "efficiency", tmp_path)}
    for file in ("suites/efficiency.py", "training/compilation.py",
                 *(f"measurement/{name}.py" for name in ("roofline", "energy", "memory", "traffic", "allocations"))):
        with open(tmp_path / "harness" / file, "a") as source:
            source.write("changed = True\n")
        found = code_fingerprint("plain", "efficiency", tmp_path)
        assert found not in known, file
        known.add(found)


def test_what_the_suite_says_of_itself():
    metrics, summary = (suites.registry.constant("efficiency", name) for name in ("METRICS", "SUMMARY"))
    assert metrics == efficiency.METRICS and set(summary) < set(metrics)
    assert next(iter(metrics)) == "step_ms"
    assert suites.registry.constant("efficiency", "CURVES") == {}


def test_the_whole_way_from_the_command_line(tmp_path, monkeypatch):
    args = ("--suite", "efficiency", "--profile", "smoke", "--variants", "fcn", "--precision", "bf16",
            "--in-process", "--out", tmp_path)
    first = bench(*args)
    assert first.exit_code == 0, first.output
    assert "2 runs (1 networks in 2 cells)" in first.output
    assert "fcn, image_size 32, seed 0: Training step" in first.output
    for name in ("table.csv", "table.md", "table.tex", "report.html"):
        assert (tmp_path / name).stat().st_size > 0
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(float(row["Peak memory, predicted [B]"]) > 0 for row in rows if
                                  "Peak memory, predicted [B]" in row)
    page = (tmp_path / "report.html").read_text()
    assert "All measurements" in page and "What it costs" in page and "--precision bf16" in page
    monkeypatch.setattr("harness.cli.show_report", lambda out, console: [])      # it would be the same
    again = bench(*args)
    assert again.exit_code == 0 and again.output.count("kept from an earlier call") == 2
