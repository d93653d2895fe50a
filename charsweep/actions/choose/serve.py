"""A sweep's name in; its page on 127.0.0.1 until Ctrl-C, and the address to open, out."""

from __future__ import annotations

import socket
import webbrowser
from pathlib import Path

import uvicorn

from charsweep.actions.choose.app import make_app
from charsweep.actions.choose.reader import Reader
from charsweep.actions.choose.voting import Voting
from charsweep.actions.ui import HOST, choose_port
from charsweep.config import Settings
from charsweep.core.errors import StoreError
from charsweep.core.system.console import command, out
from charsweep.core.system.signals import Stopped
from charsweep.results.votes import FILE, Votes

GRACE_SECONDS = 3  # for what is being answered when the end is asked for


def choose(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM; with `merge`, add somebody's votes instead.

    StoreError where there is no such sweep, ConfigError where the port is taken.
    """
    root = Path(settings.root).expanduser().resolve()
    folder = root / "sweeps" / settings.name
    if not (folder / "sweep.json").exists():
        raise StoreError(no_sweep(folder))
    votes = Votes(folder / FILE)
    if settings.merge is not None:
        merge(votes, Path(settings.merge).expanduser(), folder)
        return
    port = choose_port(settings.choose.port, "choose.port")
    reader = Reader(folder, root / "sweeps" / "store")
    app, exporter = make_app(reader, Voting(votes, settings.choose.voter), port)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )  # fmt: skip
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()  # who comes before the server is up waits for it
        url = f"http://{HOST}:{port}/"
        now = reader.now()
        _ = now.page  # written now, not when the first one looks
        cast = votes.read()
        out(f"{settings.name}: {len(now.cells)} cells, {len(cast)} votes")
        out(f"  look, vote and choose  {url}")
        out("stop it with Ctrl-C")
        if settings.choose.open:
            webbrowser.open(url)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except Stopped:  # which is how it ends
            pass
        finally:
            exporter.stop()
        if votes.read() != cast:
            say_report(folder)
        out("stopped")


def merge(votes: Votes, path: Path, folder: Path) -> None:
    """Add the votes of another file, each once."""
    new = votes.merge(path / FILE if path.is_dir() else path)
    out(f"votes    {new} new, {len(votes.read())} in all")
    say_report(folder)


def say_report(folder: Path) -> None:
    """What brings report and tables up to date after votes."""
    words = ["action=report", f"name={folder.name}", f"root={folder.parent.parent}"]
    out(f"report   {command(words)} counts them")


def no_sweep(folder: Path) -> str:
    """What is said where there is no sweep of that name."""
    others = sorted(path.parent.name for path in folder.parent.glob("*/sweep.json"))
    known = f"there are {', '.join(others[:8])}" if others else "run one there first"
    return f"there is no sweep {folder.name} in {folder.parent}; {known}, or set name= and root="
