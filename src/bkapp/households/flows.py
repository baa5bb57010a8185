"""Work around a question to the population register, which is asked while no transaction is open."""

from datetime import UTC, datetime
from secrets import token_hex

import structlog

from bkapp.access.operations import Caller
from bkapp.db import Sessions
from bkapp.households import operations
from bkapp.households.models import Invitation
from bkapp.households.operations import HouseholdView, Question
from bkapp.households.operations.asking import PURPOSE
from bkapp.households.providers import Citizen, Mismatch, NotFound, Register, RegisterUnavailable
from bkapp.households.rules import Outcome, Relation
from bkapp.http import today
from bkapp.sealing import Keyring

log = structlog.get_logger("bkapp.households")


async def household_of(
    sessions: Sessions,
    register: Register | None,
    keyring: Keyring,
    caller: Caller,
    *,
    what: str,
    request_id: str,
    again: bool = False,
) -> HouseholdView:
    """The household of a person, after asking the population register where it is time to (``again``: at their wish).

    Every question is written down before it is asked and its outcome after.  While the register is away, what we know
    stands, and the view says how old it is.  ``register`` is None where there is none to ask.
    """
    if register is not None:
        number = f"BK-{datetime.now(UTC):%Y%m%d%H%M%S}-{token_hex(8)}"
        async with sessions.begin() as session:
            question = await operations.question_due(
                session, keyring, caller, request_id=number, now=datetime.now(UTC), again=again
            )
        if question is not None:
            # No transaction is open here: a slow register must not hold our locks.
            answer = await _ask(register, caller, question)
            async with sessions.begin() as session:
                if isinstance(answer, Outcome):
                    await operations.take_refusal(session, question, answer)
                else:
                    await operations.take_answer(
                        session,
                        keyring,
                        caller,
                        question,
                        answer,
                        now=datetime.now(UTC),
                        today=today(),
                        what=what,
                        request_id=request_id,
                    )
    async with sessions.begin() as session:
        return await operations.show(session, keyring, caller, today=today(), what=what, request_id=request_id)


async def _ask(register: Register, caller: Caller, question: Question) -> Citizen | Outcome:
    try:
        return await register.look_up(
            request_id=question.request_id,
            number=question.number,
            name=question.name,
            birth=question.birth,
            officer=caller.id,
            procedure=PURPOSE,
        )
    except NotFound:
        return Outcome.NOT_FOUND
    except Mismatch:
        return Outcome.MISMATCH
    except RegisterUnavailable as error:
        reason = error.facts.get("reason")
        log.warning("population_register", reason=reason, question=question.request_id)
        return Outcome.REFUSED if reason == "refused" else Outcome.UNAVAILABLE


async def invite(sessions: Sessions, caller: Caller, relation: Relation) -> tuple[Invitation, str]:
    """Make an invitation in a transaction of its own.

    Not in that of the request: its answer holds the token, and answers are kept.  A repeat makes another invitation,
    which the head sees and can revoke.
    """
    async with sessions.begin() as session:
        return await operations.invite(session, caller, relation=relation, now=datetime.now(UTC))
