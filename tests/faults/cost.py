"""What it costs a sweep that meets no fault to be ready for them: the share of its wall time.

    python tests/faults/cost.py +sweep=smoke

Times, in this process, every call of what locks, syncs, checks sizes and manifests, saves resume
states, and looks whether a database is free; a call within another is counted once. Files that
would be written anyhow are counted too, so the share is an upper bound.
"""

from __future__ import annotations

import functools
import importlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

GUARDS = {
    "charsweep.core.store.store": ("write_text", "_sizes_on_disk", "_matches", "clear_half_written",
                        "clear_abandoned", "Store.check_losses", "Store.resume_step"),
    "charsweep.train": ("save_state",),
    "charsweep.core.system.sqlite": ("wait_until_free", "check_whole"),
    "charsweep.core.system.locks": ("_try", "_owner"),
    "charsweep.core.system.signals": ("check", "pause"),
    "charsweep.actions.main_loop": ("append_result",),
}  # fmt: skip

spent, calls, depth = Counter[str](), Counter[str](), [0]


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        depth[0] += 1
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            depth[0] -= 1
            if depth[0] == 0:
                spent[name] += time.perf_counter() - started
                calls[name] += 1

    return wrapper


def watch() -> None:
    """Put a clock around each guard, wherever it has been imported to."""
    for module in ("charsweep.actions.main_loop", "charsweep.engine.local"):
        importlib.import_module(module)
    ours = [module for name, module in sys.modules.items() if name.startswith("charsweep")]
    for place, names in GUARDS.items():
        for name in names:
            owner: Any = sys.modules[place]
            *classes, last = name.split(".")
            for one in classes:
                owner = getattr(owner, one)
            found = getattr(owner, last)
            setattr(owner, last, clocked := timed(name, found))
            for module in ours:
                for known, value in list(vars(module).items()):
                    if value is found:
                        setattr(module, known, clocked)


def main() -> None:
    from charsweep.__main__ import main as charsweep

    watch()
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        assert charsweep([*sys.argv[1:], f"root={root}"]) == 0
        seconds = time.perf_counter() - started
    for name, took in spent.most_common():
        print(f"{name:<28} {calls[name]:6d} calls {took:8.3f} s {100 * took / seconds:6.2f} %")
    total = spent.total()
    print(f"all {total:.2f} s of {seconds:.1f} s: {100 * total / seconds:.2f} %")


if __name__ == "__main__":
    main()
