"""Runs for comparisons: those of a synthetic folder, or with one number and no files."""

import synthetic_records as synthetic

from harness.record import read_records
from harness.run_files import Run


def runs_of(out):
    return [Run(record, out / "runs" / record.run_id) for record in read_records(out / "runs")[0]]


def memory_run(
    tmp_path, value=5.0, *, seed=0, variant="plain", status="ok", protocol=None, data=None, steps=2000, **more
):
    """A run with one number, and no files."""
    metrics = {"fid": synthetic.metric(value, protocol=protocol or {})} if status == "ok" else {}
    spec = synthetic.make_spec(
        variant=variant, seed=seed, steps=steps, data=data, options=more.pop("options", None)
    )
    record = synthetic.make_record(spec, status=status, metrics=metrics, **more)
    return Run(record, tmp_path / record.run_id)
