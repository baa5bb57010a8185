"""Checking certificates, and the keys that sign them."""

from datetime import UTC, datetime
from typing import Any

from litestar import Controller, Response, get, post
from litestar.datastructures import State
from litestar.params import JSONBody

from bkapp.address import queries
from bkapp.address.certificates import BadCertificate, Signer, judge, verify
from bkapp.address.schemas import (
    AddressOut,
    CheckCertificate,
    VerdictOut,
)
from bkapp.address.statements import plain, statement_of
from bkapp.http import (
    Reading,
    anyone,
    documented,
)


class CertificateController(Controller):
    """Certificates, checked on line.  Off line: verify the signature against `/.well-known/jwks.json`."""

    tags = ("certificates",)

    @post(
        "/api/v1/certificates/verify",
        operation_id="verifyCertificate",
        status_code=200,
        guards=[anyone],
        opt={"reads_only": True},
        responses=documented(413, 415),
    )
    async def check(self, state: State, reading: Reading, data: JSONBody[CheckCertificate]) -> VerdictOut:
        """Say whether a certificate is genuine, and whether the register still says the same."""
        signer: Signer = state.signer
        try:
            then = verify(data.certificate, signer)
        except BadCertificate as error:
            return VerdictOut("not_genuine", [], error.reason.value, None, None)
        found = await queries.summary(reading, then.code)
        if found is None:
            return VerdictOut("not_genuine", [], "not_in_register", plain(then), None)
        exact = await queries.details(reading, then.code) if then.plus_code else None
        now = statement_of(found, exact, issuer=state.base_url, now=datetime.now(UTC))
        verdict = judge(data.certificate, signer, now=now)
        return VerdictOut(verdict.outcome, list(verdict.changed), None, plain(then), AddressOut.of(found))

    @get("/.well-known/jwks.json", operation_id="getSigningKeys", guards=[anyone], responses=documented())
    async def jwks(self, state: State) -> Response[dict[str, Any]]:
        """The public keys that certificates are signed with, past ones included (RFC 7517, RFC 8037)."""
        signer: Signer = state.signer
        return Response(
            signer.jwks(),
            headers={"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"},
        )
