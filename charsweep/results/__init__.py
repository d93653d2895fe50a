"""What is known of finished cells: records, points, verdict, comparisons, tables; draws nothing.

A sweep's folder goes in; what is recommended, and every table and sentence about it, come out.
"""

from charsweep.results.cells import CellResult, read_results, write_results
from charsweep.results.points import Point
from charsweep.results.read import load_record
from charsweep.results.recommendation import Recommendation, recommend
from charsweep.results.records import Record
from charsweep.results.verdict import Verdict, judge

__all__ = [
    "CellResult",
    "Point",
    "Recommendation",
    "Record",
    "Verdict",
    "judge",
    "load_record",
    "read_results",
    "recommend",
    "write_results",
]
