"""Votes as the page casts them: the next pair, an answer, one taken back, and what they say."""

from __future__ import annotations

import random
import secrets
import threading
from datetime import UTC, datetime
from typing import Any

from charsweep.actions.choose.asked import AskedVote
from charsweep.actions.choose.shown import Exam, Shown, id_of
from charsweep.core.errors import ConfigError
from charsweep.results import CellResult
from charsweep.results.labels import point_text
from charsweep.results.preference import Pair, next_pair, preferences
from charsweep.results.votes import Vote, Votes


class Voting:
    """The votes of one voter, and everybody's in the same file."""

    def __init__(self, votes: Votes, voter: str) -> None:
        self.votes, self.voter = votes, voter
        self._random = random.Random()
        self._lock = threading.Lock()

    def pair(self, shown: Shown, number: int, cell: str | None = None) -> dict[str, Any]:
        """Two images of one prompt and seed; of them one of `cell`'s where that is given.

        ConfigError where fewer than two cells have images.
        """
        exam = shown.exams[number]
        drawn = [one for one in exam.record.cells if one.finished and one.images]
        if len(drawn) < 2 or not exam.record.sweep.prompts:
            raise ConfigError("there is nothing to vote on yet: two finished cells are needed")
        if cell is not None:
            found = self._from_here(exam, drawn, cell)
        else:
            rivals = tuple(one.cell for one in drawn if one.cell in exam.good)
            found = next_pair(self.votes.read(), drawn, rivals, self._random)
        sweep = exam.record.sweep
        image = found.prompt * len(sweep.seeds) + sweep.seeds.index(found.seed)
        return {
            "id": secrets.token_hex(8),
            "left": side(shown.cells[found.left], image),
            "right": side(shown.cells[found.right], image),
            "prompt": found.prompt,
            "seed": found.seed,
        }

    def _from_here(self, exam: Exam, drawn: list[CellResult], cell: str) -> Pair:
        """The cell against one of the best, or against any; sides and image by chance."""
        others = [one.cell for one in drawn if one.cell != cell]
        other = self._random.choice([key for key in others if key in exam.good] or others)
        left, right = self._random.sample((cell, other), 2)
        prompt = self._random.randrange(len(exam.record.sweep.prompts))
        return Pair(left, right, prompt, self._random.choice(exam.record.sweep.seeds), False)

    def add(self, shown: Shown, asked: AskedVote) -> dict[str, Any]:
        """Write an answer down, once; ConfigError for one on what the sweep has not."""
        number = self._exam_of(shown, asked)
        with self._lock:
            if all(known.id != asked.id for known in self.votes.read()):
                self.votes.add(Vote(
                    id=asked.id, left=asked.left, right=asked.right, prompt=asked.prompt,
                    seed=asked.seed, answer=asked.answer, seconds=asked.seconds, voter=self.voter,
                    at=datetime.now(UTC).isoformat(timespec="seconds"),
                ))  # fmt: skip
        return self.told(shown, number)

    def undo(self, shown: Shown, id: str) -> dict[str, Any]:
        """Take a vote back; ConfigError for one that is not there."""
        with self._lock:
            found = next((vote for vote in self.votes.read() if vote.id == id), None)
            if found is None or not self.votes.undo(id):
                raise ConfigError(f"there is no vote {id} to take back")
        return self.told(shown, shown.exam_of.get(found.left, 0))

    def _exam_of(self, shown: Shown, asked: AskedVote) -> int:
        """The number of the exam that both cells of a vote have in common."""
        exams = {shown.exam_of.get(key) for key in (asked.left, asked.right)}
        number = exams.pop()
        if asked.left == asked.right or exams or number is None:
            raise ConfigError(
                f"{asked.left} and {asked.right}: these are no two cells of this sweep that compare"
            )
        sweep = shown.exams[number].record.sweep
        if asked.prompt >= len(sweep.prompts) or asked.seed not in sweep.seeds:
            raise ConfigError(
                f"prompt {asked.prompt}, seed {asked.seed}: this sweep's exam has no such image"
            )
        if any(not shown.cells[key].images for key in (asked.left, asked.right)):
            raise ConfigError(f"{asked.left} and {asked.right}: one of them has drawn nothing")
        return number

    def told(self, shown: Shown, number: int) -> dict[str, Any]:
        """What the votes on the cells of an exam say, and the newest vote of this voter."""
        exam = shown.exams[number]
        drawn = [one for one in exam.record.cells if one.finished and one.images]
        keys = {one.cell for one in drawn}
        votes = self.votes.read()
        own = [vote for vote in votes if {vote.left, vote.right} <= keys]
        mine = [vote.id for vote in own if vote.voter == self.voter]
        found = preferences(own, drawn)
        axes = tuple(exam.record.axes)
        strengths = sorted(found.strengths.items(), key=lambda pair: pair[1][0], reverse=True)
        return {
            "count": sum(vote.answer != "skip" for vote in own),
            "mine": len(mine),
            "last": mine[-1] if mine else None,
            "says": found.says,
            "enough": found.decisive,
            "strengths": [
                {"cell": key, "label": point_text(shown.cells[key].values, axes),
                 "value": value, "low": low, "high": high}
                for key, (value, low, high) in strengths
            ],
        }  # fmt: skip


def side(cell: CellResult, number: int) -> dict[str, Any]:
    """One image of a pair; which cell's it is stands in its key alone."""
    assert cell.images is not None
    return {"cell": cell.cell, "images": id_of(cell.images), "number": number}
