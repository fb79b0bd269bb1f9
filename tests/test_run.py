"""A run that goes wrong in any way is a row whose reason can be read."""

import pytest

from harness.execute import execute
from harness.execution import Execution
from harness.record import read_records

# A network that builds well on the meta device, where it is counted, and then does what it is asked to.
NETWORK = """
import sys
from torch import nn

class Own(BaseException):
    pass

class Net(nn.Module):
    def __init__(self, *, in_channels, out_channels, how, when, **_):
        super().__init__()
        self.net, self.how, self.when = nn.Conv2d(in_channels, out_channels, 1), how, when
        if when == "build":
            self.fail()

    def fail(self):
        if self.how == "exit":
            sys.exit(0)
        raise {"interrupt": KeyboardInterrupt, "own": Own, "odd": ValueError}[self.how]("half \\ud800\\n\\x1b[31m")

    def forward(self, x, t=None, context=None):
        if self.when == "forward" and not x.is_meta:
            self.fail()
        return self.net(x)

class Unsaved(Net):
    def __init__(self, **k):
        super().__init__(**k, how="", when="")

    def state_dict(self, *a, **k):
        raise KeyError("nothing to save")

def nothing(**_):
    return None
"""


@pytest.mark.parametrize("how, says", [
    ("exit", "SystemExit: 0"), ("interrupt", "KeyboardInterrupt: half"), ("own", "Own: half"), ("odd", "ValueError: ")])
@pytest.mark.parametrize("when", ["build", "forward"])
def test_a_network_that_ends_the_process_is_a_failed_row(how, says, when, tiny_data, tiny_spec, tmp_path):
    (tmp_path / "mine.py").write_text(NETWORK)
    spec = tiny_spec("segmentation", variant=f"{tmp_path / 'mine.py'}:Net", options={"how": how, "when": when})
    [record] = execute([spec], tiny_data("segmentation"), tmp_path, how=Execution(in_process=True))
    assert record.status == "failed" and says in record.error and record.error.isprintable()
    [kept], problems = read_records(tmp_path / "runs")
    assert kept.error == record.error and not problems
    assert "mine.py" in (tmp_path / "runs" / record.run_id / "traceback.txt").read_text(encoding="utf-8")


def test_a_network_whose_weights_cannot_be_saved_is_a_failed_row(tiny_data, tiny_spec, tmp_path):
    (tmp_path / "mine.py").write_text(NETWORK)
    train = {**tiny_spec("segmentation").train.model_dump(), "steps": 1, "ema_decay": 0}
    spec = tiny_spec("segmentation", variant=f"{tmp_path / 'mine.py'}:Unsaved", options={}, train=train)
    [record] = execute([spec], tiny_data("segmentation"), tmp_path, how=Execution(in_process=True))
    assert record.status == "failed" and "KeyError: 'nothing to save'" in record.error and not record.metrics


def test_a_factory_that_returns_no_module_is_a_failed_row(tiny_data, tiny_spec, tmp_path):
    (tmp_path / "mine.py").write_text(NETWORK)
    [record] = execute([tiny_spec("segmentation", variant=f"{tmp_path / 'mine.py'}:nothing")],
                       tiny_data("segmentation"), tmp_path, how=Execution(in_process=True))
    assert record.status == "failed" and "must return a torch.nn.Module, not NoneType" in record.error
