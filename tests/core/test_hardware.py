"""What the work would be done on: NVML as it answers on several machines, and this machine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from helpers.small import loaded_after

from charsweep.core.system.hardware import (
    Card,
    find_card,
    machine_memory,
    nvidia_card,
    usable_precision,
)

GIB = 2**30
OLD = Card("Tesla T4", 15 * GIB, (7, 5))
NEW = Card("NVIDIA A100-SXM4-40GB", 40 * GIB, (8, 0))


class Nvml:
    """The functions of pynvml that are asked, on a machine with these cards; None: no driver."""

    class NVMLError(Exception):
        pass

    def __init__(self, *cards: Card, driver: bool = True, mig: dict[str, Card] | None = None):
        self.cards, self.driver, self.mig = cards, driver, mig or {}
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802 - as in pynvml, here and below
        if not self.driver:
            raise self.NVMLError("NVML Shared Library Not Found")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:  # noqa: N802
        if uuid not in self.mig:
            raise self.NVMLError("Not Found")
        return self.mig[uuid]

    def nvmlDeviceGetUUID(self, handle: Card) -> str:  # noqa: N802
        return f"GPU-{self.cards.index(handle)}aaa-bbb"

    def nvmlDeviceGetName(self, handle: Card) -> str:  # noqa: N802
        return handle.name

    def nvmlDeviceGetMemoryInfo(self, handle: Card) -> Any:  # noqa: N802
        return SimpleNamespace(total=handle.memory_bytes, free=1, used=handle.memory_bytes - 1)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: Card) -> Card:  # noqa: N802
        if handle not in self.mig.values():
            raise self.NVMLError("Invalid Argument")
        return self.cards[0]

    def nvmlDeviceGetCudaComputeCapability(self, handle: Card) -> tuple[int, int]:  # noqa: N802
        if handle.capability is None:
            raise self.NVMLError("Not Supported")
        return handle.capability


@pytest.mark.parametrize(
    ("visible", "card"),
    [(None, OLD), ("0", OLD), ("1", NEW), ("1,0", NEW), (" 1 , 0", NEW), ("GPU-1aaa", NEW),
     ("2", None), ("", None), ("-1", None), ("GPU-9", None), ("none", None), ("MIG-9", None)],
)  # fmt: skip
def test_the_first_visible_card(visible: str | None, card: Card | None) -> None:
    nvml = Nvml(OLD, NEW)
    assert nvidia_card(nvml, visible) == card
    assert nvml.opened == 0


def test_an_instance_has_its_own_memory_and_its_cards_capability() -> None:
    part = Card("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5 * GIB)
    assert nvidia_card(Nvml(NEW, mig={"MIG-1": part}), "MIG-1") == Card(part.name, 5 * GIB, (8, 0))


def test_no_card_and_no_driver() -> None:
    assert nvidia_card(Nvml(), None) is None
    assert nvidia_card(Nvml(NEW, driver=False), None) is None


def test_precision_by_card() -> None:
    apple, cpu = Card("Apple GPU", GIB, device="mps"), Card("CPU", GIB, device="cpu")
    found = [usable_precision("auto", card) for card in (NEW, OLD, apple, cpu, None)]
    assert found == ["bf16", "fp16", "fp32", "fp32", "fp32"]
    assert usable_precision("bf16", cpu) == "bf16"
    assert usable_precision("fp32", NEW) == "fp32"
    with pytest.raises(ValueError, match="fp8"):
        usable_precision("fp8", NEW)


def test_this_machine() -> None:
    card = find_card("cpu")
    assert card == Card("CPU", machine_memory(), None, "cpu")
    assert card.memory_bytes > GIB


def test_hidden_cards_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_card("cuda") is None
    found = find_card("auto")
    assert found is None or found.capability is None


def test_asking_imports_no_torch() -> None:
    code = "from charsweep.core.system.hardware import find_card\nfind_card('auto')"
    assert not {"torch", "codecarbon"} & loaded_after(code)


@pytest.mark.gpu
def test_the_card_as_torch_sees_it() -> None:
    import torch

    card, device = find_card("auto"), torch.cuda.get_device_properties(0)
    assert card is not None
    assert card.name == device.name
    assert card.capability == (device.major, device.minor)
    # NVML counts what the driver keeps for itself, 1 % of an H100 and more of a small card
    assert device.total_memory <= card.memory_bytes <= 1.1 * device.total_memory
    assert usable_precision("auto", card) == (
        "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    )
