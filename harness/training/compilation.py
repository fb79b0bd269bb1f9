"""torch.compile with its kernels kept between runs, and one line where there is no compiler."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = "TORCHINDUCTOR_CACHE_DIR"                  # read by PyTorch when it compiles


@contextmanager
def compilation(cache: Path) -> Iterator[Callable[[], str]]:
    """Compile inside this: kernels come from and go to ``cache/inductor``. Gives what says where they came from.

    Raises RuntimeError with one line where the compiler fails, as it does where no C++ compiler is installed.
    """
    import torch._dynamo as dynamo
    from torch._dynamo.exc import TorchDynamoException
    from torch._dynamo.utils import counters

    def kernels() -> str:
        hits, misses = counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"]
        return f"{hits} of {hits + misses} graphs from the cache"

    dynamo.reset()                                 # after 8 networks in one process it would compile no more
    counters.clear()
    before = os.environ.get(CACHE)
    os.environ[CACHE] = str((cache / "inductor").resolve())
    try:
        yield kernels
    except TorchDynamoException as problem:
        said = str(problem).strip().partition("\n\n")[0]        # then come hints on how to report it to PyTorch
        raise RuntimeError(f"torch.compile: {' '.join(said.split())}") from problem
    finally:
        if before is None:
            del os.environ[CACHE]
        else:
            os.environ[CACHE] = before
