"""HTTP for households: what a person does with their own, and what officers decide."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, citizen, officer
from bkapp.access.operations import Caller, record_read, record_reads
from bkapp.households import flows, operations, queries
from bkapp.households.rules import ClaimStatus, MemberStatus
from bkapp.households.schemas import (
    AcceptInvitation,
    ClaimAddress,
    ClaimOut,
    ClaimsOut,
    DecidedOut,
    EndMembership,
    InvitationOut,
    InvitationsOut,
    Invite,
    InvitedOut,
    InvitedPageOut,
    MembershipOut,
    NewInvitationOut,
    OwnClaimOut,
    OwnClaimsOut,
    OwnHouseholdOut,
    Refuse,
)
from bkapp.http import KEYED, SIGNED_IN, IdempotencyKey, Reading, Transaction, documented, request_id_of, today

OWN = documented(401, 403, 404, 409)
OWN_CHANGE = documented(401, 403, 404, 409, 413, 415, 422)
DECISION = documented(401, 403, 404, 409, 413, 415, 422)
PRIVATE = {"Cache-Control": "no-store"}

Id = Annotated[UUID, PathParameter()]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]
After = Annotated[UUID | None, QueryParameter(description="`next` of the page before.")]


class HouseholdController(Controller):
    """The household of the person who asks."""

    path = "/api/v1/me/household"
    tags = ("households",)

    @get("/", operation_id="showMyHousehold", guards=[citizen], security=SIGNED_IN, responses=OWN)
    async def show(self, state: State, asking: Asking, request: Request) -> Response[OwnHouseholdOut]:
        """The household one is in, as the population register has it; it is asked once a day.

        While it does not answer, what we know stands and `stale` is true.
        """
        return await _own(state, asking, request, again=False)

    @post(
        "/refresh",
        operation_id="refreshMyHousehold",
        status_code=200,
        guards=[citizen],
        security=SIGNED_IN,
        opt={"flow": True},
        responses=OWN,
    )
    async def refresh(self, state: State, asking: Asking, request: Request) -> Response[OwnHouseholdOut]:
        """The same, after asking the population register anew; at most once a minute it is asked indeed."""
        return await _own(state, asking, request, again=True)

    @get("/claims", operation_id="listMyClaims", guards=[citizen], security=SIGNED_IN, responses=OWN)
    async def claims(self, reading: Reading, asking: Asking, request: Request) -> Response[OwnClaimsOut]:
        """The addresses that the household has claimed, newest first."""
        own = await operations.require_member(reading, asking)
        await _recorded(reading, asking, request, own.household_id)
        found = await queries.claims_of(reading, own.household_id)
        return Response(OwnClaimsOut([OwnClaimOut.of(claim) for claim in found]), headers=PRIVATE)

    @post("/claims", operation_id="claimAddress", guards=[citizen], security=SIGNED_IN, responses=OWN_CHANGE)
    async def claim(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        data: JSONBody[ClaimAddress],
    ) -> OwnClaimOut:
        """Say that an address is the household's: one by its code, or a new one by a pin; an officer confirms.

        Refused when the household has an address or a waiting claim, when the address is in another commune than the
        household, when another household lives there, and for everything for which a proposal is refused.
        """
        made = await operations.claim(
            transaction,
            state.keyring,
            asking,
            code=data.code,
            pin=data.pin.read() if data.pin else None,
            today=today(),
            is_demo=state.settings.demo,
        )
        return OwnClaimOut.of(made)

    @post(
        "/claims/{claim_id:uuid}/withdraw",
        operation_id="withdrawMyClaim",
        status_code=200,
        guards=[citizen],
        security=SIGNED_IN,
        responses=OWN_CHANGE,
    )
    async def withdraw(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, claim_id: Id
    ) -> OwnClaimOut:
        """Take a waiting claim back.  An address that was proposed with it is rejected."""
        return OwnClaimOut.of(await operations.withdraw(transaction, asking, claim_id, today=today()))

    @get("/invitations", operation_id="listMyInvitations", guards=[citizen], security=SIGNED_IN, responses=OWN)
    async def invitations(self, reading: Reading, asking: Asking, request: Request) -> Response[InvitationsOut]:
        """The invitations of the household, for its head."""
        own = await operations.require_head(reading, asking)
        await _recorded(reading, asking, request, own.household_id)
        found = await queries.invitations(reading, own.household_id)
        return Response(InvitationsOut([InvitationOut.of(row) for row in found]), headers=PRIVATE)

    @post(
        "/invitations",
        operation_id="inviteMember",
        guards=[citizen],
        security=SIGNED_IN,
        opt={"flow": True},
        responses=OWN_CHANGE,
    )
    async def invite(self, state: State, asking: Asking, data: JSONBody[Invite]) -> Response[NewInvitationOut]:
        """Invite somebody who lives in the household, by its head.

        The token is shown this once and good for seven days; whoever takes it up waits for an officer.  A repeat makes
        another invitation: ten may be open at a time, and `DELETE` ends one.
        """
        made, token = await flows.invite(state.sessions, asking, data.relation)
        link = f"{state.settings.base_url}/moi/{token}"
        return Response(
            NewInvitationOut(made.id, made.relation, made.expires_at, token, link), status_code=201, headers=PRIVATE
        )

    @delete(
        "/invitations/{invitation_id:uuid}",
        operation_id="revokeMyInvitation",
        guards=[citizen],
        security=SIGNED_IN,
        responses=OWN_CHANGE,
    )
    async def revoke(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, invitation_id: Id
    ) -> None:
        """End an open invitation."""
        await operations.revoke(transaction, asking, invitation_id, now=datetime.now(UTC))

    @post(
        "/leave",
        operation_id="leaveMyHousehold",
        status_code=200,
        guards=[citizen],
        security=SIGNED_IN,
        responses=OWN_CHANGE,
    )
    async def leave(self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey) -> MembershipOut:
        """Leave the household one was invited to, or take back that one waits to be in it.

        Its exact place is closed to one at once.  Refused to whom the residence register has in the household.
        """
        return MembershipOut.of(await operations.leave_own(transaction, asking, today=today()))

    @post(
        "/members/{membership_id:uuid}/end",
        operation_id="endMyMember",
        status_code=200,
        guards=[citizen],
        security=SIGNED_IN,
        responses=OWN_CHANGE,
    )
    async def end_member(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, membership_id: Id
    ) -> MembershipOut:
        """End the membership of somebody who was invited, by the head; they are told.

        The home's exact place is closed to them at once.  Refused for those whom the residence register has there.
        """
        return MembershipOut.of(await operations.dismiss(transaction, asking, membership_id, today=today()))


class InvitationController(Controller):
    """Taking an invitation up."""

    path = "/api/v1/invitations"
    tags = ("households",)

    @post("/accept", operation_id="acceptInvitation", guards=[citizen], security=SIGNED_IN, responses=OWN_CHANGE)
    async def accept(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        data: JSONBody[AcceptInvitation],
    ) -> MembershipOut:
        """Take an invitation up.  It is good once; an officer of the commune confirms the membership."""
        return MembershipOut.of(await operations.accept(transaction, asking, data.token, now=datetime.now(UTC)))


class ClaimController(Controller):
    """Claims of addresses in the officer's units."""

    path = "/api/v1/claims"
    tags = ("households",)

    @get("/", operation_id="listClaims", guards=[officer], security=KEYED, responses=documented(401, 403))
    async def list_claims(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        *,
        status: Annotated[ClaimStatus, QueryParameter()] = ClaimStatus.WAITING,
        limit: Limit = 50,
        after: After = None,
    ) -> Response[ClaimsOut]:
        """The claims in one's units, oldest first.  Who claims is told while the claim waits; each read is recorded."""
        found = await queries.claims_for(reading, asking.unit_ids, status=status, limit=limit + 1, after=after)
        page = found[:limit]
        named = status is ClaimStatus.WAITING
        subjects = [subject for claim in page for subject in (claim.code, str(claim.person_id))]
        await _seen(state, asking, request, subjects)
        claims = [
            ClaimOut.of(claim, operations.name_of(state.keyring, claim.person_id, claim.name_cipher) if named else None)
            for claim in page
        ]
        return Response(ClaimsOut(claims, page[-1].id if len(found) > limit else None), headers=PRIVATE)

    @post(
        "/{claim_id:uuid}/confirm",
        operation_id="confirmClaim",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=DECISION,
    )
    async def confirm(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, claim_id: Id
    ) -> DecidedOut:
        """The address is the household's: a proposed one is issued, into an existing one the household moves."""
        return DecidedOut.of(await operations.confirm_claim(transaction, asking, claim_id, today=today()))

    @post(
        "/{claim_id:uuid}/refuse",
        operation_id="refuseClaim",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=DECISION,
    )
    async def refuse(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        claim_id: Id,
        data: JSONBody[Refuse],
    ) -> DecidedOut:
        """The address is not the household's.  One that was proposed with the claim is rejected."""
        refused = await operations.refuse_claim(transaction, asking, claim_id, reason=data.reason, today=today())
        return DecidedOut.of(refused)


class MembershipController(Controller):
    """People who took up an invitation to a household of the officer's units."""

    path = "/api/v1/memberships"
    tags = ("households",)

    @get("/", operation_id="listMemberships", guards=[officer], security=KEYED, responses=documented(401, 403))
    async def list_memberships(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        *,
        status: Annotated[MemberStatus, QueryParameter()] = MemberStatus.WAITING,
        limit: Limit = 50,
        after: After = None,
    ) -> Response[InvitedPageOut]:
        """Those who took up an invitation, oldest first.  Their names are told while they wait."""
        found = await queries.invited_for(reading, asking.unit_ids, status=status, limit=limit + 1, after=after)
        page = found[:limit]
        named = status is MemberStatus.WAITING
        subjects = [subject for row in page for subject in (f"household:{row.household_id}", str(row.person_id))]
        await _seen(state, asking, request, subjects)
        rows = [
            InvitedOut.of(row, operations.name_of(state.keyring, row.person_id, row.name_cipher) if named else None)
            for row in page
        ]
        return Response(InvitedPageOut(rows, page[-1].id if len(found) > limit else None), headers=PRIVATE)

    @post(
        "/{membership_id:uuid}/confirm",
        operation_id="confirmMembership",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=DECISION,
    )
    async def confirm(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, membership_id: Id
    ) -> MembershipOut:
        """The person belongs to the household."""
        return MembershipOut.of(await operations.confirm_member(transaction, asking, membership_id))

    @post(
        "/{membership_id:uuid}/refuse",
        operation_id="refuseMembership",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=DECISION,
    )
    async def refuse(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        membership_id: Id,
        data: JSONBody[Refuse],
    ) -> MembershipOut:
        """The person does not belong to the household."""
        return MembershipOut.of(await operations.refuse_member(transaction, asking, membership_id, reason=data.reason))

    @post(
        "/{membership_id:uuid}/end",
        operation_id="endMembership",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=DECISION,
    )
    async def end(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        membership_id: Id,
        data: JSONBody[EndMembership],
    ) -> MembershipOut:
        """Somebody who was invited belongs to the household no more; they are told, without the reason."""
        ended = await operations.end_member(transaction, asking, membership_id, reason=data.reason, today=today())
        return MembershipOut.of(ended)


async def _own(state: State, asking: Caller, request: Request, *, again: bool) -> Response[OwnHouseholdOut]:
    view = await flows.household_of(
        state.sessions,
        state.population,
        state.keyring,
        asking,
        what=_what(request),
        request_id=request_id_of(request.scope),
        again=again,
    )
    return Response(OwnHouseholdOut.of(view), headers=PRIVATE)


async def _recorded(session: AsyncSession, asking: Caller, request: Request, household_id: UUID) -> None:
    await record_read(
        session,
        asking,
        subject=f"household:{household_id}",
        what=_what(request),
        request_id=request_id_of(request.scope),
    )


async def _seen(state: State, asking: Caller, request: Request[Any, Any, Any], subjects: list[str]) -> None:
    subjects = [*dict.fromkeys(subjects)]
    await record_reads(
        state.records, asking, subjects=subjects, what=_what(request), request_id=request_id_of(request.scope)
    )


def _what(request: Request) -> str:
    return str(request.scope["path_template"])


CONTROLLERS = (HouseholdController, InvitationController, ClaimController, MembershipController)
