"""What TensorBoard reads of a run: once, without what is undefined, offline."""

import pytest

NAMES = {"curves/loss", "curves/validation loss", "metrics/fid", "cost/parameters"}     # neither kid nor a point at 30


def test_tensorboard(results, track, forget):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra track)")
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2
    out, record = results(status="failed", error="out of luck")
    track("tensorboard", out, record)
    out, record = results(minute=5)                # the failed run, made again
    folder = track("tensorboard", out, record)
    cut_short = folder / f".unfinished-plain-{record.run_id}-host-1"
    cut_short.mkdir()
    forget(folder)
    track("tensorboard", out, record)
    assert not cut_short.exists()

    found = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    [name] = found.Runs()
    assert name == f"plain,_seed_0-{record.run_id}"
    events = found.GetAccumulator(name)
    assert set(events.Tags()["scalars"]) == NAMES and events.Tags()["images"] == ["pictures/samples"]
    loss = events.Scalars("curves/loss")
    assert [(point.step, point.value) for point in loss] == [(10, 0.5), (20, 0.25)]
    assert loss[1].wall_time - loss[0].wall_time == 1.5
    assert events.Scalars("metrics/fid")[0].value == 1.5
    assert (events.Images("pictures/samples")[0].width, events.Images("pictures/samples")[0].height) == (16, 8)
    assert events.Tensors("tags/run_id/text_summary")[0].tensor_proto.string_val == [record.run_id.encode()]
    start = plugin_data_pb2.HParamsPluginData.FromString(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content).session_start_info
    assert start.hparams["train.steps"].number_value == 2000
    assert start.hparams["options.mults"].string_value == "[1, 2]"
