"""Records of the efficiency suite as its contract has them, from a cost model whose exponents are known.

Pixels p = side². A network's MACs are ``linear`` p + ``square`` p²; a step takes 3 times as many at ``RATE``, plus
``FIXED`` per call; memory is 16 bytes a parameter, plus ``maps`` bytes a pixel and image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import synthetic_records as synthetic

from harness.record import Record, write_record
from harness.run_files import Run
from harness.spec import DataSpec, RunSpec, TrainSpec, digest

RATE, PEAK, BANDWIDTH, FIXED = 4e10, 1.6e11, 2e10, 0.0     # MAC/s reached, FLOP/s, B/s, s


@dataclass(frozen=True)
class Network:
    linear: float                                  # MACs a pixel
    square: float = 0.0                            # MACs a pixel squared
    parameters: int = 2_000_000
    maps: float = 600.0                            # bytes of activations a pixel


# as counted for width 32: a DiT with patches of 4 passes the U-Net at 128 px
NETWORKS = {"plain": Network(140_000.0), "residual": Network(155_000.0, parameters=2_100_000, maps=900.0),
            "dit": Network(77_500.0, 5.95, 1_875_888, 350.0)}


def make_spec(variant="plain", side=32, *, seed=0, batch=4, precision="fp32", options=None, device="cpu", compile=False,
              **settings):
    settings = {"image_size": side, "channels": 3, "channels_last": True, "fused": True,
                "time": True, "repeats": 20, "warmup": 3, **settings}
    spec = synthetic.make_spec("segmentation", variant, seed)
    train = TrainSpec(steps=1, batch_size=batch, learning_rate=1e-4, precision=precision, compile=compile)
    return spec.model_copy(update={"suite": "efficiency", "options": options or {}, "device": device,
                                   "data": DataSpec(name="noise"), "settings": settings, "train": train})


def make_record(spec: RunSpec, network: Network, *, noise=0.0, spread=0.02, status="ok", error=None, minute=0,
                env=None) -> Record:
    """``noise`` is the standard deviation of the logarithm of a time, ``spread`` the quartiles' relative distance."""
    random = np.random.default_rng(int(digest(spec.identity()), 16))
    side, batch = spec.settings["image_size"], spec.train.batch_size
    pixels, speed = side * side, 1.0 if spec.train.precision == "fp32" else 2.0
    macs = network.linear * pixels + network.square * pixels**2
    protocol = {"batch_size": batch, "image": [side, side], "precision": spec.train.precision, "threads": 2,
                **{key: spec.settings[key] for key in ("channels_last", "fused")}, "compile": spec.train.compile}
    repeats, peak = spec.settings["repeats"], PEAK * speed

    def metric(value, label, unit, direction="lower", n=1, **more):
        return synthetic.metric(float(value), label, unit, direction, n, protocol={**protocol, **more})

    def timed(name, label, seconds):
        milliseconds = 1e3 * seconds
        return {f"{name}_ms": metric(milliseconds, label, "ms", n=repeats),
                f"{name}_iqr_ms": metric(spread * milliseconds, f"{label}, interquartile range", "ms", n=repeats)}

    seconds = {name: (FIXED + factor * batch * macs / (RATE * speed)) * np.exp(random.normal(0, noise))
               for name, factor in (("forward", 1), ("step", 3))}
    four, held = 4 * network.parameters, network.maps * pixels * batch
    intensity = 2 * macs * batch / (2 * held + four)
    attained = {name: factor * 2 * macs * batch / seconds[name] for name, factor in (("forward", 1), ("step", 3))}
    roof = min(peak, intensity * BANDWIDTH)
    limit = {"roofline": f"{peak / 1e9:.4g} GFLOP/s, {BANDWIDTH / 1e9:.4g} GB/s"}
    metrics = {
        **timed("step", "Training step", seconds["step"]), **timed("forward", "Forward pass", seconds["forward"]),
        "train_images_per_s": metric(batch / seconds["step"], "Training throughput", "images/s", "higher", repeats),
        "inference_images_per_s": metric(batch / seconds["forward"], "Inference throughput", "images/s", "higher",
                                         repeats),
        "memory_bytes": metric(4 * four + 1.1 * held, "Peak training memory", "B"),
        "memory_parameters_bytes": metric(four, "Memory of parameters", "B"),
        "memory_gradients_bytes": metric(four, "Memory of gradients", "B"),
        "memory_optimizer_bytes": metric(2 * four, "Memory of the optimiser", "B"),
        "memory_activations_bytes": metric(held, "Memory of activations", "B"),
        "memory_predicted_bytes": metric(4 * four + 1.05 * held, "Predicted peak memory", "B"),
        "memory_inference_bytes": metric(four + 0.2 * held, "Peak inference memory", "B"),
        "intensity": metric(intensity, "Arithmetic intensity", "FLOP/B", "none"),
        "forward_flops_per_s": metric(attained["forward"], "Forward FLOP/s", "FLOP/s", "higher"),
        "step_flops_per_s": metric(attained["step"], "Training FLOP/s", "FLOP/s", "higher"),
        **{f"roofline_share_{name}": metric(rate / roof, f"{name}, share of roofline", "", "higher", repeats, **limit)
           for name, rate in attained.items()},
    } if status == "ok" else {}
    cost = {"parameters": synthetic.metric(network.parameters, "Parameters", "", "lower", 1),
            "macs": synthetic.metric(macs, "MACs", "MAC", "lower", 1),
            "flops": synthetic.metric(2 * macs, "FLOPs", "FLOP", "lower", 1)}
    made = synthetic.make_record(spec, status=status, error=error, metrics=metrics, cost=cost, minute=minute)
    return made.model_copy(update={"env": {**made.env, "device": spec.device, **(env or {})}})


def runs_of(sides=(32, 64, 128, 256), networks=None, seeds=(0,), lost=None, *, batches=(4,), precisions=("fp32",),
            noise=0.0, spread=0.02, options=None, **more) -> list[Run]:
    """Every network at every side in every condition; ``lost`` maps (network, side) to (status, reason)."""
    runs = []
    for side in sides:
        for batch in batches:
            for precision in precisions:
                for seed in seeds:
                    for name, network in (networks or NETWORKS).items():
                        spec = make_spec(name, side, seed=seed, batch=batch, precision=precision,
                                         options=(options or {}).get(name), **more)
                        status, error = (lost or {}).get((name, side), ("ok", None))
                        record = make_record(spec, network, noise=noise, spread=spread, status=status, error=error,
                                             minute=len(runs))
                        runs.append(Run(record, Path(record.run_id)))
    return runs


def write_output(out: Path, *args, **more) -> list[Record]:
    """A results folder of the runs of :func:`runs_of`."""
    records = [run.record for run in runs_of(*args, **more)]
    for record in records:
        folder = out / "runs" / record.run_id
        folder.mkdir(parents=True)
        write_record(folder, record)
        timed = {"training step ms": "step", "forward ms": "forward"}
        rows = [row for name, key in timed.items() if f"{key}_ms" in record.metrics
                for row in calls(name, record.metrics[f"{key}_ms"], record.metrics[f"{key}_iqr_ms"])]
        if rows:
            (folder / "curves.csv").write_text("\n".join(["step,seconds,name,value", *rows]) + "\n")
    return records


def calls(name, median, spread):
    """Rows of timed calls, evenly spaced, whose median and quartiles are as given."""
    last = median.n - 1
    return [f"{i},0.0,{name},{median.value + spread.value * (2 * i / last - 1)!r}" for i in range(median.n)]
