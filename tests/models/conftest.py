"""What the tests of models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.shrunk import forget, shrink
from helpers.true_shapes import write_shapes

from charsweep.models import architectures


@pytest.fixture
def shrunk(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Shrunk architectures stand in for the published ones."""
    folder = tmp_path_factory.mktemp("architectures")
    shrink(folder)
    monkeypatch.setattr(architectures, "FOLDER", folder)
    forget()
    write_shapes()
    yield
    forget()
