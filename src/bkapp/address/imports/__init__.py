"""Bulk import of households: one file, every row accounted for."""

from bkapp.address.imports.reading import COLUMNS, Fault, Row, count_records, read_row, records
from bkapp.address.imports.surroundings import Surroundings
from bkapp.address.imports.writing import Tally, import_households

__all__ = [
    "COLUMNS",
    "Fault",
    "Row",
    "Surroundings",
    "Tally",
    "count_records",
    "import_households",
    "read_row",
    "records",
]
