"""What can be done about personal data: consents, requests with clocks, the export, erasing, keeping no longer.

Each function takes the session first and does one thing a clerk could name.  It never commits and never sees HTTP.
"""

from bkapp.identity.operations import Sealed
from bkapp.privacy.models import SubjectRequest
from bkapp.privacy.operations.consents import (
    ConsentNeeded,
    ProcessingRestricted,
    channel_of,
    give_consent,
    require_consent,
    withdraw_consent,
)
from bkapp.privacy.operations.erasing import ErasureBlocked, erase
from bkapp.privacy.operations.exporting import collect
from bkapp.privacy.operations.hindrances import Blocker
from bkapp.privacy.operations.keeping import keep_no_longer
from bkapp.privacy.operations.requests import (
    NeedsErasing,
    NoErasure,
    RequestOpen,
    acknowledge,
    ask,
    carry_out,
    details_of,
    lift_restriction,
    prolong,
    refuse,
    to_erase,
)

SEALED = (Sealed(SubjectRequest.details_cipher, SubjectRequest.id, "request.details"),)
"""The sealed columns of this feature, for ``bkapp keys reseal``."""

__all__ = [
    "SEALED",
    "Blocker",
    "ConsentNeeded",
    "ErasureBlocked",
    "NeedsErasing",
    "NoErasure",
    "ProcessingRestricted",
    "RequestOpen",
    "acknowledge",
    "ask",
    "carry_out",
    "channel_of",
    "collect",
    "details_of",
    "erase",
    "give_consent",
    "keep_no_longer",
    "lift_restriction",
    "prolong",
    "refuse",
    "require_consent",
    "to_erase",
    "withdraw_consent",
]
