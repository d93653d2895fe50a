"""The server of the page, as a FastAPI app: files of the page, images, votes, exports.

A request names a sweep's cells, image sets and drawings by key or number, never by a path. All
that is answered is JSON, an image or a file of the page.
"""

from __future__ import annotations

import re
import shlex
import threading
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from charsweep.actions.choose.exporting import Exporter
from charsweep.actions.choose.grid_png import draw_grid, stored_image
from charsweep.actions.choose.guard import Guard
from charsweep.actions.choose.nearest import nearest
from charsweep.actions.choose.progress import progress_of
from charsweep.actions.choose.reader import Reader
from charsweep.actions.choose.schemas import (
    AskedCell,
    AskedGrid,
    AskedUndo,
    AskedValue,
    AskedVote,
)
from charsweep.actions.choose.shown import Shown
from charsweep.actions.choose.thumbnails import LARGE, Picture, Thumbnails, as_it_is
from charsweep.actions.choose.voting import Voting
from charsweep.actions.requests import ask, check_added
from charsweep.core.errors import CharsweepError, ConfigError
from charsweep.core.keys import digest_of_content
from charsweep.core.store.files import clear_half_written
from charsweep.results import CellResult

MOST_BYTES = 2_000_000  # of what is sent to us: a grid of 5,000 places
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
NEWEST = {"Cache-Control": "no-store"}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css",
         ".svg": "image/svg+xml"}  # fmt: skip


@dataclass(frozen=True)
class PageFile:
    """A file of the page itself."""

    content: bytes
    media_type: str


def page_files() -> dict[str, PageFile]:
    """The files of the page by name, as the package has them."""
    found = {}
    for file in (files("charsweep.actions.choose") / "page").iterdir():
        ending = re.search(r"\.\w+$", file.name)
        if ending and ending[0] in TYPES:
            found[file.name] = PageFile(file.read_bytes(), f"{TYPES[ending[0]]}; charset=utf-8")
    return found


def make_app(reader: Reader, voting: Voting, port: int) -> tuple[FastAPI, Exporter]:
    """The app on a sweep, and what runs its exports."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    root = reader.folder.parent.parent
    exporter = Exporter(reader.folder.name, str(root))
    thumbnails = Thumbnails(reader.folder / "thumbnails")
    clear_half_written(thumbnails.folder)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MOST_BYTES)
    app.add_middleware(Guard, port=port)
    add_errors(app)
    add_page(app)
    add_pictures(app, reader, thumbnails)
    add_sweep(app, reader, exporter)
    add_requests(app, reader)
    add_votes(app, reader, voting)
    return app, exporter


# -- the page and what it looks at -----------------------------------------------------------------


def add_page(app: FastAPI) -> None:
    """`/` and the files that it names."""
    known = page_files()

    @app.get("/")
    @app.get("/page/{name}")
    def page(name: str = "index.html") -> Response:
        if name not in known:
            raise HTTPException(404, "there is no such file")
        return Response(known[name].content, media_type=known[name].media_type, headers=NEWEST)


def add_pictures(app: FastAPI, reader: Reader, thumbnails: Thumbnails) -> None:
    """Stored images, whole and small, and the character's drawings."""

    @app.get("/images/{images}/{number}")
    def image(images: str, number: int) -> Response:
        return sent(as_it_is(stored_image(reader.now(), images, number)))

    @app.get("/thumbnails/{images}/{number}")
    def thumbnail(images: str, number: int) -> Response:
        path = stored_image(reader.now(), images, number)
        return sent(thumbnails.of(path, f"{images}/{number:04d}"))

    @app.get("/drawings/{exam}/{number}")
    def drawing(exam: int, number: int) -> Response:
        exams = reader.now().exams
        known = exams[exam].drawings if 0 <= exam < len(exams) else []
        for own, path, _ in known:
            if own == number:
                place = f"drawings/{digest_of_content(path)}"
                return sent(thumbnails.of(path, place, LARGE), NEWEST)
        raise HTTPException(404, "this sweep has no such drawing")

    @app.get("/api/nearest/{images}/{number}")
    def nearest_drawing(images: str, number: int) -> dict[str, int | None]:
        now = reader.now()
        path = stored_image(now, images, number)
        exam = next((one for one in now.exams if images in one.image_sets), now.exams[0])
        return {"drawing": nearest(path, [(own, file) for own, file, _ in exam.drawings])}


def sent(picture: Picture | None, headers: dict[str, str] = FOREVER) -> Response:
    """An image as an answer."""
    if picture is None:
        raise HTTPException(404, "this image cannot be read; action=check says what is damaged")
    return Response(picture.data, media_type=picture.media_type, headers=headers)


def add_sweep(app: FastAPI, reader: Reader, exporter: Exporter) -> None:
    """The sweep, its cells, its progress; a grid as a PNG, a cell as an export."""

    @app.get("/api/sweep")
    def sweep() -> Response:
        return Response(reader.now().page, media_type="application/json", headers=NEWEST)

    @app.get("/api/cells/{key}")
    def cell(key: str) -> dict[str, Any]:
        now = reader.now()
        if key in now.waiting:
            return now.details_waiting(now.waiting[key])
        return now.details(known_cell(now, key))

    @app.get("/api/progress")
    def progress() -> dict[str, Any]:
        return progress_of(reader.now(), reader.folder)

    @app.post("/api/grid")
    def grid(asked: AskedGrid) -> Response:
        return Response(draw_grid(asked, reader.now()), media_type="image/png", headers=NEWEST)

    @app.post("/api/export")
    def export(asked: AskedCell) -> dict[str, Any]:
        cell = known_cell(reader.now(), asked.cell)
        if cell.images is None:
            raise ConfigError(f"cell {cell.cell} is {cell.state} and has no weights to take")
        exporter.start(cell.cell)
        return exporter.told()

    @app.get("/api/export")
    def exported() -> dict[str, Any]:
        return exporter.told()


def add_requests(app: FastAPI, reader: Reader) -> None:
    """What is asked of the command that works on the sweep, or of the next one."""
    composing = threading.Lock()  # Hydra composes one configuration at a time

    @app.post("/api/stop")
    def stop(asked: AskedCell) -> dict[str, str]:
        now = reader.now()
        if asked.cell not in now.waiting:
            known = known_cell(now, asked.cell)
            raise ConfigError(
                f"cell {known.cell} has ended ({known.state}): nothing is left to stop"
            )
        ask(reader.folder, stop=asked.cell)
        return {}

    @app.post("/api/add")
    def add(asked: AskedValue) -> dict[str, str]:
        words = words_of(reader.now().record.sweep.command, reader.folder.parent.parent)
        with composing:
            check_added(reader.folder, words, asked.axis, asked.value)
        ask(reader.folder, axis=asked.axis, value=asked.value)
        return {}


def words_of(command: str, root: Path) -> list[str]:
    """The words of a sweep's command, for this root. ConfigError where they cannot be read."""
    try:
        words = shlex.split(command)
        first = words.index("charsweep") + 1
    except ValueError as error:
        raise ConfigError(
            "the command of this sweep cannot be read back; type it once more, with the value added"
        ) from error
    return [*(word for word in words[first:] if not word.startswith("root=")), f"root={root}"]


def add_votes(app: FastAPI, reader: Reader, voting: Voting) -> None:
    """Pairs to vote on, votes, and what they say."""

    @app.get("/api/pair")
    def pair(exam: int = 0, cell: str | None = None) -> dict[str, Any]:
        now = reader.now()
        if cell is not None:
            known_cell(now, cell)
        if not 0 <= exam < len(now.exams):
            raise HTTPException(404, "this sweep has no such exam")
        return voting.pair(now, exam, cell)

    @app.get("/api/votes")
    def votes(exam: int = 0) -> dict[str, Any]:
        now = reader.now()
        if not 0 <= exam < len(now.exams):
            raise HTTPException(404, "this sweep has no such exam")
        return voting.told(now, exam)

    @app.post("/api/votes")
    def vote(asked: AskedVote) -> dict[str, Any]:
        return voting.add(reader.now(), asked)

    @app.post("/api/undo")
    def undo(asked: AskedUndo) -> dict[str, Any]:
        return voting.undo(reader.now(), asked.id)


def known_cell(shown: Shown, key: str) -> CellResult:
    """The cell of that key; 404 for one that the sweep has not."""
    if key not in shown.exam_of:
        raise HTTPException(404, f"this sweep has no cell {key[:40]}")
    return shown.cells[key]


# -- what went wrong -------------------------------------------------------------------------------


def add_errors(app: FastAPI) -> None:
    """Every error as one plain sentence."""

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    @app.exception_handler(CharsweepError)
    async def ours(_: Request, error: CharsweepError) -> Response:
        refused = isinstance(error, ConfigError)  # else it may go better another time: a full disk
        return JSONResponse({"error": str(error)}, 400 if refused else 503)

    @app.exception_handler(RequestValidationError)
    async def unfit(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        words = str(first["msg"]).removeprefix("Value error, ")
        return JSONResponse({"error": f"{where}: {words}" if where else words}, 422)
