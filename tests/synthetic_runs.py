"""Single runs: those of a synthetic folder, with one number and no files, or with one of each kind of file."""

import math

import synthetic_records as synthetic
from PIL import Image

from harness.record import Picture, read_records, write_record
from harness.run_files import Run

CURVES = "step,seconds,name,value\n10,1.5,loss,0.5\n20,3,loss,0.25\n20,3,validation loss,0.75\n30,4,loss,nan\n"


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


def write_small_run(out, *, curves=CURVES, status="ok", **changes):
    """(out, record) of a run in out/runs: two curves with an undefined point each, an undefined metric, a picture.

    A second call makes the run again.
    """
    spec = synthetic.make_spec(options={"width": 16, "mults": [1, 2]}, **changes.pop("spec", {}))
    record = synthetic.make_record(
        spec, status=status, pictures={"samples.png": Picture(rows=1, columns=2, caption="Drawn digits")},
        metrics={"fid": synthetic.metric(1.5), "kid": synthetic.metric(math.nan)} if status == "ok" else {},
        cost={"parameters": synthetic.metric(1000.0, "Parameters")}, **changes)
    folder = out / "runs" / record.run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curves.csv").write_text(curves)
    Image.new("L", (16, 8), 200).save(folder / "samples.png")
    write_record(folder, record)
    return out, record
