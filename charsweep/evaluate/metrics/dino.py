"""DINO: likeness to the training images, by DINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from charsweep.core.encoders import reads_images
from charsweep.core.keys import CAME_LATER
from charsweep.core.sides import BOTH, NAMES
from charsweep.core.specs import PLACE
from charsweep.evaluate.metrics import Exam, Features, Score, mean_score
from charsweep.evaluate.metrics.identity import edges


@dataclass(frozen=True)
class Dino:
    """DINO identity score of DreamBooth (Ruiz et al. 2022, section 4.2): mean over all pairs.

    In [-1, 1]; higher is more like the training images, copies of them included. By another
    encoder it is that one's likeness. Of two characters, `asked` says of each prompt whom it asks
    for ("subject", "other" or "both"), and the images of theirs are compared with; of both it is
    the lower of the two, each in a window of its own: on the side that the prompt says, else the
    better way round. A place is like the drawing that is nearest to the edges of an image.
    """

    encoder: str = reads_images("dino")
    asked: Sequence[str] = field(default=(), metadata=CAME_LATER)

    version: ClassVar[int] = 1

    def __call__(self, exam: Exam) -> Score:
        if not exam.references:
            return Score(None)
        seen = exam.images.by_encoder[self.encoder]
        if not self.asked:
            return mean_score(self._likeness(exam, seen, exam.references))
        return self._of_two(exam, seen)

    def among(self, exam: Exam) -> float | None:
        return exam.mean_among(self.encoder)

    def _likeness(
        self, exam: Exam, seen: Features, drawings: Mapping[str, Features]
    ) -> NDArray[np.float64]:
        """Of images (N, D) to all the drawings of one character (N,)."""
        return np.asarray(exam.likeness(self.encoder, seen, drawings[self.encoder]).mean(axis=1))

    def _of_two(self, exam: Exam, seen: Features) -> Score:
        if exam.windows is None:
            return Score(None)
        if exam.kind == PLACE:
            return self._in_place(exam, self._likeness(exam, seen, exam.references))
        halves = exam.windows.by_encoder[self.encoder]
        drawings = (exam.references, exam.other)
        alone = dict(zip(NAMES, (self._likeness(exam, seen, own) for own in drawings), strict=True))
        one, other = (
            np.stack([self._likeness(exam, halves[:, side], own) for side in (0, 1)], axis=1)
            for own in drawings
        )
        ways = [np.minimum(one[:, side], other[:, 1 - side]) for side in (0, 1)]
        both: dict[str | None, NDArray[np.float64]] = {None: np.maximum(*ways)}  # by who is left
        both |= zip(NAMES, ways, strict=True)
        found = [
            both[exam.left[prompt]] if self.asked[prompt] == BOTH else alone[self.asked[prompt]]
            for prompt in exam.images.prompt_of
        ]
        return mean_score(np.array([own[image] for image, own in enumerate(found)]))

    def _in_place(self, exam: Exam, character: NDArray[np.float64]) -> Score:
        """By the likeness (N,) of the character, and that of the place."""
        seen = edges(exam.windows).by_encoder[self.encoder]
        place = exam.likeness(self.encoder, seen, exam.other[self.encoder]).max(axis=1)
        found = dict(
            zip((*NAMES, BOTH), (character, place, np.minimum(character, place)), strict=True)
        )
        asked = (self.asked[prompt] for prompt in exam.images.prompt_of)
        return mean_score(np.array([found[whom][image] for image, whom in enumerate(asked)]))
