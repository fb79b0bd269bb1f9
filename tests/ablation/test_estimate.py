"""An estimate scales each part of a short probe to the real run, and prefers what finished runs took."""

import csv
import io
from dataclasses import dataclass

import pytest
from rich.console import Console
from synthetic_records import make_record, metric

from harness.ablation import estimate as estimate_module
from harness.ablation.estimate import Row, duration, estimate, show
from harness.ablation.manifest import arm_key
from harness.ablation.probe import PROBE_SAMPLING, PROBE_STEPS, probe_spec, validations
from harness.execute import execute as real_execute
from harness.execution import Execution
from harness.identity.sources import code_fingerprint
from harness.record import write_record
from harness.spec import Seeds, TrainSpec

TRAIN = TrainSpec(steps=900, batch_size=16, learning_rate=1e-3, warmup_steps=50, validate_every=150)


@dataclass
class Machine:
    """Stands for :func:`harness.execute.execute`, on a clock of its own that only its work moves.

    A run takes ``start`` s, ``step`` s per step, ``validation`` s each, ``sampling`` s per sampling step,
    ``evaluating`` s; ``imports`` s before the very first and ``classifier`` s where the cache has none.
    """

    start: float = 2.0
    step: float = 0.1
    validation: float = 1.5
    sampling: float = 0.5
    evaluating: float = 3.0
    imports: float = 0.0
    classifier: float = 0.0
    process: float = 0.0
    slowdown: float = 1.0
    status: str = "ok"

    def __post_init__(self):
        self.now, self.ran = 0.0, []

    def clock(self):
        return self.now

    def __call__(self, plan, data, out, *, listener):
        return [self.run(spec, data, out, listener) for spec in plan]

    def run(self, spec, data, out, listener):
        speed = {"plain": 1, "no_skip": 0.5, "dit": 4}[spec.variant] * self.slowdown
        code = code_fingerprint(spec.variant, spec.suite)
        folder = out / "runs" / spec.run_id(code=code, data=data.fingerprint)
        assert not folder.exists(), "a probe must not be made twice under one id"
        listener(spec, stage="start")
        self.now += self.process + (0 if self.ran else self.imports)
        began, trained, rows = self.now, 0.0, []
        self.ran.append(spec)
        self.now += self.start
        for step in range(1, spec.train.steps + 1):
            # the first steps pay for allocation, so a rate that counts them is wrong
            took = self.step * speed * (3 if step <= 5 else 1)
            self.now += took
            trained += took
            last, every = step == spec.train.steps, spec.train.validate_every
            if last or step % 10 == 0:
                rows.append((step, trained, "loss", 1.0))
                listener(spec, stage="training", step=step, total=spec.train.steps, loss=1.0)
            if last or (every and step % every == 0):
                self.now += self.validation * speed
        if spec.evaluate_on_test:
            for _ in range(2 if spec.suite == "generation" else 0):
                listener(spec, stage="sampling", step=0, total=8)
                self.now += self.sampling * speed * spec.settings["num_inference_steps"] / 2
            listener(spec, stage="evaluating")
            cached = out / "cache" / f"cnn-{spec.suite}"
            if self.classifier and not cached.exists():
                self.now += self.classifier
                cached.parent.mkdir(parents=True, exist_ok=True)
                cached.touch()
            self.now += self.evaluating
        folder.mkdir(parents=True)
        with (folder / "curves.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("step", "seconds", "name", "value"), *rows])
        record = make_record(spec, status=self.status, code=code, error=None if self.status == "ok" else "no luck",
                             cost={"macs": metric(speed * 1e6, "MACs", "MAC")})
        record = record.model_copy(update={"duration_s": self.now - began, "run_id": folder.name})
        write_record(folder, record)
        listener(spec, stage="done", record=record)
        return record


@pytest.fixture
def data(tiny_data):
    return {suite: tiny_data(suite) for suite in ("segmentation", "generation")}


@pytest.fixture
def plan(tiny_spec):
    """plan(suite, variants, seeds): runs of 900 steps, seven validations, 25 sampling steps."""
    def make(suite="segmentation", variants=("plain",), seeds=1, **changes):
        settings = {"num_inference_steps": 25, "samples": 8, "sample_batch": 4} if suite == "generation" else {}
        return [tiny_spec(suite, variant=variant, seeds=Seeds(init=seed, data=seed, sampling=seed),
                          **{"train": TRAIN, "settings": settings, **changes})
                for seed in range(seeds) for variant in variants]
    return make


def estimated(plan, data, tmp_path, machine, **options):
    return estimate(plan, data, tmp_path / "runs", execute=machine, clock=machine.clock, **options)


def actual(spec, data, out, machine):
    started = machine.now
    machine.run(spec, data[spec.suite], out, lambda *_, **__: None)
    return machine.now - started


@pytest.mark.parametrize("suite", ["segmentation", "generation"])
@pytest.mark.parametrize("changes", [{}, {"train": TRAIN.model_copy(update={"validate_every": 0})},
                                     {"train": TRAIN.model_copy(update={"steps": 7, "validate_every": 3})}])
def test_a_probe_is_scaled_part_by_part(suite, changes, plan, data, tmp_path):
    [spec] = plan(suite, **changes)
    machine = Machine()
    [row] = estimated([spec], data, tmp_path, machine, trials=2).rows
    trial = spec.model_copy(update={"evaluate_on_test": False})
    took = {name: actual(one, data, tmp_path / name, machine) for name, one in (("run", spec), ("trial", trial))}
    assert row.seconds == pytest.approx(took["run"])
    # without validations in between, the only one cannot be told from evaluating
    alone = 0 if spec.train.validate_every and spec.train.steps > PROBE_STEPS else machine.validation
    assert row.trial_seconds == pytest.approx(took["trial"] - alone)
    assert row.total == row.seconds + 2 * row.trial_seconds
    assert (row.kind, row.source) == ("probe", "probe")


def test_a_probe_is_the_real_run_with_a_small_budget(plan):
    [spec] = plan("generation")
    tiny = probe_spec(spec)
    assert (tiny.train.steps, tiny.train.validate_every) == (PROBE_STEPS, PROBE_STEPS // 2)
    assert tiny.settings == {**spec.settings, "num_inference_steps": PROBE_SAMPLING}
    restored = {"train": spec.train, "settings": spec.settings}
    assert tiny.model_copy(update=restored) == spec
    assert validations(spec) == 6 and validations(tiny) == 2
    assert [validations(spec.model_copy(update={"train": TRAIN.model_copy(update={"validate_every": every})}))
            for every in (0, 150, 160, 900, 2000)] == [1, 6, 6, 1, 1]


def test_runs_of_an_arm_share_one_probe_and_results_are_left_alone(plan, data, tmp_path):
    specs = [*plan("segmentation", ("plain", "dit"), seeds=3), *plan("generation", ("plain",), seeds=3)]
    machine = Machine()
    found = estimated([*specs, specs[0]], data, tmp_path, machine)
    assert [(row.suite, row.arm, row.runs, row.finished) for row in found.rows] == [
        ("segmentation", "plain", 3, 0), ("segmentation", "dit", 3, 0), ("generation", "plain", 3, 0)]
    assert found.total == pytest.approx(3 * sum(row.seconds for row in found.rows))
    assert [(spec.suite, spec.variant) for spec in machine.ran] == [
        ("segmentation", "plain"), ("generation", "plain"), ("segmentation", "dit")]     # each suite's first goes first
    assert list(tmp_path.iterdir()) == []


def test_finished_runs_are_better_than_a_probe_and_are_not_counted_again(plan, data, tmp_path):
    specs = plan("segmentation", ("plain", "no_skip"), seeds=4)
    machine = Machine()
    took = []
    for machine.slowdown, spec in zip((1, 3, 1.5), (specs[0], specs[2], specs[4])):
        took.append(actual(spec, data, tmp_path, machine))
    ran = len(machine.ran)
    plain, no_skip = estimated(specs, data, tmp_path, machine, trials=1,
                               names={arm_key(specs[0]): "concat"}).rows
    assert (plain.arm, plain.runs, plain.finished, plain.kind) == ("concat", 4, 3, "runs")
    assert plain.source == "3 finished runs" and plain.seconds == pytest.approx(sorted(took)[1])
    assert plain.trial_seconds == pytest.approx(900 * 0.15 + 5 * 2 * 0.15)       # the training of the median run
    assert plain.total == pytest.approx(plain.seconds + plain.trial_seconds)
    assert no_skip.kind == "probe" and [spec.variant for spec in machine.ran[ran:]] == ["no_skip"]


def test_a_finished_study_needs_no_probe_and_no_time(plan, data, tmp_path):
    specs = plan(seeds=2)
    machine = Machine()
    for spec in specs:
        actual(spec, data, tmp_path, machine)
    found = estimated(specs, data, tmp_path, machine)
    assert len(machine.ran) == 2 and found.total == 0 and found.range == (0, 0) and not found.unknown


def test_runs_that_ended_early_or_cannot_be_read_do_not_say_how_long_one_takes(plan, data, tmp_path):
    specs = plan(seeds=3)
    diverging = Machine(status="diverged")
    actual(specs[0], data, tmp_path, diverging)
    actual(specs[1], data, tmp_path, diverging)
    code = code_fingerprint("plain", "segmentation")
    bad = tmp_path / "runs" / specs[1].run_id(code=code, data=data["segmentation"].fingerprint) / "record.json"
    bad.write_text("{")
    [row] = estimated(specs, data, tmp_path, Machine()).rows
    assert (row.finished, row.kind) == (2, "probe")


def test_what_runs_share_is_paid_once_and_not_where_it_is_there(plan, data, tmp_path):
    specs = plan("generation", ("plain", "no_skip"), seeds=5)
    machine = Machine(classifier=40, imports=9, process=0.5)
    found = estimated(specs, data, tmp_path, machine, max_seconds=200)
    assert found.once == pytest.approx(40)
    began = machine.now
    for spec in specs:
        actual(spec, data, tmp_path / "out", machine)
    assert found.total == pytest.approx(machine.now - began)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "cnn-generation").write_text("kept")
    again = estimated(specs, data, tmp_path, machine, max_seconds=200)
    assert again.once == 0 and again.total == pytest.approx(found.total - 40)
    assert (tmp_path / "cache" / "cnn-generation").read_text() == "kept"


def test_without_time_for_a_second_probe_the_first_stands(plan, data, tmp_path):
    machine = Machine(classifier=40)
    found = estimated(plan("generation"), data, tmp_path, machine, max_seconds=54)
    assert found.once == 0 and len(machine.ran) == 2
    assert found.total == pytest.approx(actual(*plan("generation"), data, tmp_path / "out", machine))


def test_arms_that_probes_do_not_reach_are_scaled_by_macs(plan, data, tmp_path, monkeypatch):
    specs = plan("segmentation", ("plain", "no_skip", "dit"))
    monkeypatch.setattr(estimate_module, "count_macs", lambda spec, data: {"no_skip": 5e5, "dit": 4e6}[spec.variant])
    machine = Machine()
    plain, no_skip, dit = estimated(specs, data, tmp_path, machine, max_seconds=14).rows
    assert (plain.kind, no_skip.kind, dit.kind) == ("probe", "macs", "macs")
    assert no_skip.seconds == pytest.approx(plain.seconds / 2) and dit.seconds == pytest.approx(plain.seconds * 4)
    assert "no time left" in dit.source and len(machine.ran) == 2       # the second was cut off


def test_without_any_probe_nothing_is_claimed(plan, data, tmp_path):
    found = estimated(plan("segmentation", ("plain", "dit")), data, tmp_path, Machine(), max_seconds=1)
    assert [row.seconds for row in found.rows] == [None, None] and found.unknown == ("plain", "dit")
    text = shown(found)
    assert found.total == 0 and "2 runs to make; how long is not known of plain, dit" in text and "0 s to" not in text


def test_a_probe_that_fails_is_said(plan, data, tmp_path):
    [row] = estimated(plan(), data, tmp_path, Machine(status="failed")).rows
    assert row.seconds is None and row.source == "its probe ended as failed: no luck"


def shown(found):
    console = Console(file=io.StringIO(), width=140)
    show(found, console)
    return console.file.getvalue()


def test_what_is_shown(plan, data, tmp_path):
    specs = plan("segmentation", ("plain", "dit"), seeds=8)
    found = estimated(specs, data, tmp_path, Machine(), trials=4)
    text = shown(found)
    low, high = found.range
    assert low < found.total < high
    for word in ("segmentation", "dit", "probe", "one trial", "16 runs to make and 8 tuning trials",
                 duration(found.total), duration(low), duration(high), duration(found.rows[1].seconds)):
        assert word in text
    assert "one trial" not in shown(estimated(specs, data, tmp_path, Machine()))
    assert Row("s", "a", 1, 0, None, None, "", "").total == 0


@pytest.mark.parametrize("seconds, text", [(None, "?"), (0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"),
                                           (6600, "1 h 50 min"), (7500, "2 h 05 min")])
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("suite, fresh_process, made", [
    ("segmentation", True, 1),
    ("generation", False, 2)])                     # the first trained the classifier that FID needs: here, briefly
def test_a_real_probe(suite, fresh_process, made, tiny_spec, tiny_data, tmp_path, monkeypatch):
    """Finite, positive, its MACs are those that are counted without it, nothing is left behind."""
    from harness.metrics import classifier
    monkeypatch.setitem(classifier.RECIPE, "steps", 3)
    spec, data, records = tiny_spec(suite, train=TRAIN.model_copy(update={"batch_size": 4})), {}, []
    data[suite] = tiny_data(suite)

    def listening(*args, **options):
        records.extend(real_execute(*args, **options, how=Execution(in_process=not fresh_process)))
        return records[-1:]

    found = estimate([spec], data, tmp_path / "runs", trials=1, max_seconds=1e9, execute=listening)
    [row] = found.rows
    assert row.kind == "probe", row.source
    assert row.trial_seconds > 0 and row.seconds > 0
    assert len(records) == made
    assert found.probing > 0 and not list(tmp_path.iterdir())
    assert estimate_module.count_macs(spec, data[suite]) == records[0].cost["macs"].value
