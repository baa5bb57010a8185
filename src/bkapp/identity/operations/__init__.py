"""What happens to people and their sign-ins: one module for each thing that somebody does."""

from bkapp.identity.operations.arriving import Arrived, SubjectChanged, arrive, person_of, recognise
from bkapp.identity.operations.attempts import (
    Attempt,
    NativeApp,
    OtherBrowser,
    SignInExpired,
    begin,
    claim,
    read_app,
)
from bkapp.identity.operations.ending import (
    Ended,
    LogoutRepeated,
    end_device,
    end_everywhere,
    hear_logout,
    sign_out,
)
from bkapp.identity.operations.native import (
    InvalidGrant,
    InvalidTokenRequest,
    Tokens,
    UnsupportedGrant,
    exchange,
    give_code,
    rotate,
)
from bkapp.identity.operations.notices import read_notice, tell
from bkapp.identity.operations.offices import HoldsOffice, end_office, end_offices_of, grant_office
from bkapp.identity.operations.own_data import Opened, open_person, set_phone
from bkapp.identity.operations.upkeep import SEALED, Sealed, forget, reseal

__all__ = [
    "SEALED",
    "Arrived",
    "Attempt",
    "Ended",
    "HoldsOffice",
    "InvalidGrant",
    "InvalidTokenRequest",
    "LogoutRepeated",
    "NativeApp",
    "Opened",
    "OtherBrowser",
    "Sealed",
    "SignInExpired",
    "SubjectChanged",
    "Tokens",
    "UnsupportedGrant",
    "arrive",
    "begin",
    "claim",
    "end_device",
    "end_everywhere",
    "end_office",
    "end_offices_of",
    "exchange",
    "forget",
    "give_code",
    "grant_office",
    "hear_logout",
    "open_person",
    "person_of",
    "read_app",
    "read_notice",
    "recognise",
    "reseal",
    "rotate",
    "set_phone",
    "sign_out",
    "tell",
]
