"""Votes as the page casts them: the next pair, an answer, one taken back, and what they say."""

from __future__ import annotations

import random
import secrets
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from charsweep.actions.choose.schemas import AskedVote
from charsweep.actions.choose.shown import Exam, Shown, id_of
from charsweep.core.errors import ConfigError
from charsweep.results import CellResult
from charsweep.results.agreement import trust
from charsweep.results.next_pair import Pair, next_pair
from charsweep.results.preference import preferences
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
        sweep, votes = exam.record.sweep, self.votes.read()
        found = None
        if cell is not None:
            found = self._from_here(exam, cell)
        elif exam.prompts:
            found = next_pair(
                votes, exam.candidates, len(exam.prompts), sweep.seeds, self._random, self.voter
            )
        if found is None:
            raise ConfigError("there is nothing to vote on yet: two finished settings are needed")
        image = found.prompt * len(sweep.seeds) + sweep.seeds.index(found.seed)
        return {
            "id": secrets.token_hex(8),
            "left": side(shown.cells[found.left], image),
            "right": side(shown.cells[found.right], image),
            "prompt": found.prompt,
            "seed": found.seed,
        }

    def _from_here(self, exam: Exam, cell: str) -> Pair | None:
        """The cell against one that is as good, or against any; sides and image by chance."""
        sweep = exam.record.sweep
        others = [one for one in exam.candidates if cell not in one.sets]
        rivals = [one for one in others if one.is_rival] or others
        if not rivals or not exam.prompts:
            return None
        left, right = self._random.sample(
            (cell, self._random.choice(self._random.choice(rivals).sets)), 2
        )
        prompt = self._random.randrange(len(exam.prompts))
        return Pair(left, right, prompt, self._random.choice(sweep.seeds))

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
        """Take a vote back; ConfigError for one that is not there, or is somebody else's."""
        with self._lock:
            own = (vote for vote in self.votes.read() if vote.voter == self.voter)
            found = next((vote for vote in own if vote.id == id), None)
            if found is None or not self.votes.undo(id):
                raise ConfigError(f"there is no vote {id} of yours to take back")
        return self.told(shown, shown.exam_of.get(found.left, 0))

    def _exam_of(self, shown: Shown, asked: AskedVote) -> int:
        """The number of the exam that both cells of a vote have in common."""
        exams = {shown.exam_of.get(key) for key in (asked.left, asked.right)}
        number = exams.pop()
        if asked.left == asked.right or exams or number is None:
            raise ConfigError(
                f"{asked.left} and {asked.right}: these are no two cells of this sweep that compare"
            )
        exam = shown.exams[number]
        sweep = exam.record.sweep
        if asked.prompt >= len(exam.prompts) or asked.seed not in sweep.seeds:
            raise ConfigError(
                f"prompt {asked.prompt}, seed {asked.seed}: this sweep's exam has no such image"
            )
        if any(not shown.cells[key].images for key in (asked.left, asked.right)):
            raise ConfigError(f"{asked.left} and {asked.right}: one of them has drawn nothing")
        return number

    def told(self, shown: Shown, number: int) -> dict[str, Any]:
        """What the votes on the cells of an exam say, and the newest vote of this voter."""
        candidates, votes = shown.exams[number].candidates, self.votes.read()
        found = preferences(votes, candidates)
        mine = [vote.id for vote in votes if vote.voter == self.voter]
        known = [
            (one.label, found.strengths[one.sets[0]])
            for one in candidates
            if one.sets[0] in found.strengths
        ]
        return {
            "count": found.votes,
            "last": mine[-1] if mine else None,
            "says": found.says,
            "enough": found.decisive,
            "trust": trust(replace(shown.exams[number].record, votes=votes), not found.nothing)
            if found.votes
            else [],
            "strengths": [
                {"label": label, **asdict(strength)}
                for label, strength in sorted(known, key=lambda pair: -pair[1].value)
            ],
        }


def side(cell: CellResult, number: int) -> dict[str, Any]:
    """One image of a pair; which cell's it is stands in its key alone."""
    assert cell.images is not None
    return {"cell": cell.cell, "images": id_of(cell.images), "number": number}
