"""What can be done with addresses: the verbs of a registrar.

Each function takes the session first and does one thing a clerk could name.  It
may read and write rows and raise ``DomainError``; it never commits and never
sees HTTP.  Every dwelling it changes gets one event, in the same transaction.
"""

from bkapp.address.operations.ending import Part, merge, retire, split
from bkapp.address.operations.hamlets import open_hamlet, rename_hamlet
from bkapp.address.operations.keeping import (
    correct_door,
    correct_point,
    move_household,
    name_otherwise,
    verify,
)
from bkapp.address.operations.placing import Door, HouseholdRef, Point, Refused
from bkapp.address.operations.proposing import issue, propose, reject
from bkapp.address.operations.settling import settle_units

__all__ = [
    "Door",
    "HouseholdRef",
    "Part",
    "Point",
    "Refused",
    "correct_door",
    "correct_point",
    "issue",
    "merge",
    "move_household",
    "name_otherwise",
    "open_hamlet",
    "propose",
    "reject",
    "rename_hamlet",
    "retire",
    "settle_units",
    "split",
    "verify",
]
