"""What can be done with households: their people as the register names them, claims of addresses, invitations.

Each function takes the session first and does one thing a clerk could name.  It never commits and never sees HTTP.
"""

from bkapp.households.operations.asking import (
    BirthUnknown,
    NameMismatch,
    NotRegistered,
    Question,
    question_due,
    take_answer,
    take_refusal,
)
from bkapp.households.operations.claiming import Pin, claim, withdraw
from bkapp.households.operations.deciding import (
    confirm_claim,
    confirm_member,
    end_member,
    refuse_claim,
    refuse_member,
)
from bkapp.households.operations.ending import ResidenceDecides, dismiss, leave_own
from bkapp.households.operations.inviting import accept, forget_old_invitations, invite, revoke
from bkapp.households.operations.leaving import forget_person
from bkapp.households.operations.showing import HouseholdView, MemberView, name_of, require_head, require_member, show

__all__ = [
    "BirthUnknown",
    "HouseholdView",
    "MemberView",
    "NameMismatch",
    "NotRegistered",
    "Pin",
    "Question",
    "ResidenceDecides",
    "accept",
    "claim",
    "confirm_claim",
    "confirm_member",
    "dismiss",
    "end_member",
    "forget_old_invitations",
    "forget_person",
    "invite",
    "leave_own",
    "name_of",
    "question_due",
    "refuse_claim",
    "refuse_member",
    "require_head",
    "require_member",
    "revoke",
    "show",
    "take_answer",
    "take_refusal",
    "withdraw",
]
