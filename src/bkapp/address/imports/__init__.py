"""Bulk import of households, hamlets and places: one file, every row accounted for."""

from bkapp.address.imports.hamlets import import_hamlets
from bkapp.address.imports.osm import import_osm
from bkapp.address.imports.places import import_places
from bkapp.address.imports.reading import COLUMNS, Fault, Row, count_records, read_row, records
from bkapp.address.imports.sources import Outcome
from bkapp.address.imports.surroundings import Surroundings
from bkapp.address.imports.writing import Tally, import_households

__all__ = [
    "COLUMNS",
    "Fault",
    "Outcome",
    "Row",
    "Surroundings",
    "Tally",
    "count_records",
    "import_hamlets",
    "import_households",
    "import_osm",
    "import_places",
    "read_row",
    "records",
]
