"""One thread, no network, no telemetry: set before anything is imported."""

from __future__ import annotations

import copy
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

os.environ |= {
    "OMP_NUM_THREADS": "1",  # bits must not depend on how work is split; two threads also thrash
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MPLBACKEND": "Agg",
}
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # of a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs started here are to hear it
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "CHARSWEEP_DEBUG"):
    os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """A test may have changed torch's threads; torch is not imported for this."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _configurations_are_read_once() -> Iterator[None]:
    """Hydra reads forty files for each sweep that is composed: a sixth of what that takes."""
    from hydra._internal.config_repository import ConfigRepository

    read, known = ConfigRepository.load_config, dict[Any, Any]()

    def load_config(self: ConfigRepository, config_path: str) -> Any:
        source = next((one for one in self.sources if one.is_config(config_path)), None)
        if source is None or source.scheme() != "file":
            return read(self, config_path)
        file = Path(source.path, source._normalize_file_name(config_path))
        key = file, file.stat().st_mtime_ns, file.stat().st_size, source.provider
        if key not in known:
            known[key] = read(self, config_path)
        found = known[key]
        return replace(found, config=copy.deepcopy(found.config))  # what is typed is written there

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", load_config)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gpu` or `ray` where there is none; only a `gpu` test imports torch."""
    if item.get_closest_marker("ray") and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
