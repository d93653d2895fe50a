"""The JSON that the page may send, checked: votes, grids to draw, cells to export."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{1,16}$")]
Number = Annotated[int, Field(ge=0, le=1_000_000)]
Label = Annotated[str, Field(max_length=400)]
MOST_IMAGES = 5000  # of a grid that is drawn; 25 MB as a PNG


class Asked(BaseModel):
    """What is sent as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AskedVote(Asked):
    """An answer to a pair: two cells by key, the prompt and the seed that both show."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # of the pair, so that it counts once
    left: Key
    right: Key
    prompt: Number
    seed: Number
    answer: Literal["left", "right", "tie", "skip"]
    seconds: Annotated[float, Field(ge=0, le=1e6)]


class AskedUndo(Asked):
    """A vote to take back."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class AskedCell(Asked):
    """A cell to export, or to stop."""

    cell: Key


class AskedPlace(Asked):
    """A place of a grid: an image of an image set, or the word that stands there."""

    images: Key | None
    number: Number = 0
    note: Annotated[str, Field(max_length=40)] = ""


class AskedGrid(Asked):
    """A grid to draw as one PNG: labels, and what stands where."""

    title: Label
    columns: Annotated[list[Label], Field(min_length=1, max_length=200)]
    rows: Annotated[list[Label], Field(min_length=1, max_length=1000)]
    places: list[list[AskedPlace]]

    @model_validator(mode="after")
    def _fits(self) -> AskedGrid:
        wide, high = len(self.columns), len(self.rows)
        if len(self.places) != high or any(len(row) != wide for row in self.places):
            raise ValueError("a row has not as many images as there are columns")
        if wide * high > MOST_IMAGES:
            raise ValueError(
                f"{wide * high:,} images are more than fit one picture ({MOST_IMAGES:,}); "
                "filter some out"
            )
        return self


class AskedValue(Asked):
    """A value to add to an axis, as it is typed."""

    axis: Annotated[str, Field(min_length=1, max_length=200)]
    value: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.+-]+$")]
