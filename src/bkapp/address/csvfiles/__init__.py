"""Files of addresses as CSV: what to look for in each row, and the rows again with what was found.

The contract is that of addok-csv, so that its clients go on working: the columns of the file come back as they were,
in their order, and behind them stand ``latitude``, ``longitude`` and ``result_…``.  A file that has a column of such
a name already gets the new value there.  Pure: no clock, no database, no network.
"""

from bkapp.address.csvfiles.options import FileUnreadable, Options, options_of
from bkapp.address.csvfiles.reading import Sheet, read
from bkapp.address.csvfiles.results import Question, chosen, fault_of, grade_of

__all__ = ["FileUnreadable", "Options", "Question", "Sheet", "chosen", "fault_of", "grade_of", "options_of", "read"]
