"""Taking one's data out, for programs and to read."""

import asyncio
import io
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from httpx import AsyncClient
from msgspec.structs import replace
from pypdf import PdfReader
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller
from bkapp.audit.models import AuditEntry
from bkapp.db import Table
from bkapp.identity.models import EidSubject
from bkapp.privacy import exports, operations
from bkapp.privacy.exports import MOST_ROWS, Export, Part
from bkapp.privacy.operations import collect
from bkapp.privacy.operations.exporting import _KEPT
from bkapp.privacy.purposes import PURPOSES
from bkapp.privacy.rules import Channel, RequestKind
from tests.households import make as people
from tests.identity import make as identity

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
WORDS = "Xin cho tôi xem ai đã đọc dữ liệu — cảm ơn"


async def fill(session: AsyncSession, caller: Caller) -> None:
    """Something of every kind that is held."""
    assert caller.person is not None
    number = await people.number_of(session, caller)
    await identity.a_sign_in(session, caller.person, device="Firefox trên Windows")
    session.add(
        EidSubject(
            issuer="https://eid.test",
            subject_hmac=people.KEYRING.lookup("eid-subject", f"https://eid.test\0{number}"),
            person_id=caller.person,
        )
    )
    await operations.give_consent(
        session,
        caller.person,
        "notices",
        text_version=PURPOSES["notices"].version,
        channel=Channel.WEB,
        now=NOW,
    )
    made = await operations.ask(session, people.KEYRING, caller.person, kind=RequestKind.ACCESS, details=WORDS, now=NOW)
    await operations.acknowledge(session, made.id, actor="clerk", with_processor=False, now=NOW)


def parts_of(export: dict[str, Any]) -> dict[str, Any]:
    return {part["id"]: part for part in export["parts"]}


class TestJson:
    async def test_holds_everything_with_notes_and_grounds(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        await fill(session, citizen)
        await session.commit()

        answer = await people.fetch(client, citizen, "/api/v1/me/export.json")

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-disposition"] == 'attachment; filename="du-lieu-ca-nhan.json"'
        assert answer.headers["cache-control"] == "no-store"
        export = answer.json()
        assert export["person"] == citizen.id
        parts = parts_of(export)
        assert all(part["title"] and part["note"] and part["basis"] for part in parts.values())
        profile = parts["profile"]["rows"][0]
        assert profile["number"] == await people.number_of(session, citizen)
        assert (profile["name"], profile["birth"]) == ("Nông Văn Hùng", "1984-03-12")
        assert parts["sign_ins"]["rows"][0]["device"] == "Firefox trên Windows"
        assert parts["memberships"]["rows"][0]["relation"] == "Chủ hộ"
        assert parts["consents"]["rows"][0]["purpose"] == "notices"
        assert parts["requests"]["rows"][0]["details"] == WORDS
        assert parts["notices"]["rows"][0]["kind"] == "data_request"
        assert parts["population_queries"]["rows"][0]["purpose"] == "test"
        assert parts["reads"]["rows"]
        kinds = {row["kind"] for row in parts["audit"]["rows"]}
        assert {"consent_given", "request_received", "request_acknowledged"} < kinds
        assert parts["eid"]["rows"] == [
            {"issuer": "https://eid.test", "created_at": parts["eid"]["rows"][0]["created_at"]}
        ]

    async def test_keeps_back_what_tells_on_others_or_opens_doors(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        await fill(session, citizen)
        relative = await people.a_person(session, "Nông Thị Mai")
        await people.registered(session, relative, head=citizen)
        officer = await people.an_officer(session)
        assert citizen.person is not None
        made = await operations.ask(
            session, people.KEYRING, citizen.person, kind=RequestKind.OBJECT, details=None, now=NOW
        )
        await operations.refuse(session, made.id, actor=officer.id, reason="Không đủ căn cứ", now=NOW)
        await session.commit()

        text = (await people.fetch(client, citizen, "/api/v1/me/export.json")).text

        assert "Không đủ căn cứ" in text
        for foreign in ("Nông Thị Mai", "Hoàng Thị Cán", officer.id, relative.id, "secret", "cipher", "hmac", "\\\\x"):
            assert foreign not in text, foreign

    async def test_is_a_read_and_stands_in_the_audit_chain(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        for ending in ("json", "pdf"):
            await people.fetch(client, citizen, f"/api/v1/me/export.{ending}")
        read = (
            await session.execute(select(DataRead.reader, DataRead.what).where(DataRead.what.contains("export")))
        ).all()
        assert [tuple(row) for row in read] == [
            (citizen.id, "/api/v1/me/export.json"),
            (citizen.id, "/api/v1/me/export.pdf"),
        ]
        entries = (await session.scalars(select(AuditEntry).where(AuditEntry.kind == "data_exported"))).all()
        assert [(entry.actor, entry.subject) for entry in entries] == [(citizen.id, citizen.id)] * 2

    @pytest.mark.parametrize("ending", ["json", "pdf"])
    async def test_needs_a_sign_in_of_just_now(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, residents: people.Residents, ending: str
    ) -> None:
        residents.let_in(replace(citizen, authenticated_at=datetime.now(UTC) - timedelta(minutes=6)))
        old = await people.fetch(client, citizen, f"/api/v1/me/export.{ending}")
        residents.let_in(replace(citizen, level=1))
        low = await people.fetch(client, citizen, f"/api/v1/me/export.{ending}")

        assert (old.status_code, old.json()["type"]) == (401, "/problems/insufficient_user_authentication")
        assert 'error="insufficient_user_authentication"' in old.headers["www-authenticate"]
        assert (low.status_code, low.json()["type"]) == (403, "/problems/assurance_too_low")
        assert (await session.scalars(select(DataRead.id).where(DataRead.what.contains("export")))).all() == []

    async def test_all_reads_go_out_however_many(self, session: AsyncSession, citizen: Caller) -> None:
        session.add_all(
            DataRead(
                reader="x", subject=citizen.id, what="w", request_id="r", read_at=NOW + timedelta(seconds=place // 3)
            )
            for place in range(2100)
        )
        await session.flush()
        assert citizen.person is not None
        export = await collect(session, people.KEYRING, citizen.person, now=NOW)
        reads = next(part for part in export.parts if part.id == "reads")
        assert len([row for row in reads.rows if row["who"] == "Người dùng khác"]) == 2100


# Columns that name nobody or open doors; everything else that names a person has to be in the export.
KEPT_BACK = {
    "person": {"number_hmac", "erased_at"},
    "consent": {"id"},
    "eid_subject": {"subject_hmac"},
    "sign_in": {"id", "secret_hash", "acr", "authenticated_at", "provider_sid"},
    "notice": {"id"},
    "membership": {"id", "decided_by"},
    "address_claim": {"id", "household_id", "unit_id", "decided_by"},
    "invitation": {"id", "household_id", "secret_hash"},
    "population_query": {"request_id", "asked_by"},
    "role_grant": {"id", "unit_id", "granted_by"},
    "bill": {
        "id",
        "beneficiary_id",
        "unit_id",
        "payer_hmac",
        "on_paid",
        "created_by",
        "cancelled_by",
        "version",
    },
    "bill_line": {"bill_id", "position"},
    "payment_attempt": {
        "id",
        "bill_id",
        "merchant_id",
        "reached",
        "success",
        "failure",
        "version",
        "created_by",
        "next_check_at",
        "checks",
        "redirect_url",
        "qr",
        "token",
    },
    "receipt": {"id", "merchant_id", "attempt_id", "bill_id", "reserved", "evidence", "created_at"},
    "refund": {"id", "receipt_id", "requested_by", "approved_by", "next_check_at", "checks", "version"},
    "payment_case": {
        "id",
        "merchant_id",
        "bill_id",
        "attempt_id",
        "receipt_id",
        "refund_id",
        "statement_line_id",
        "detail",
        "closed_by",
        "outcome",
    },
    "subject_request": {"id", "kind", "details_cipher", "acknowledge_by", "extended_at", "closed_by"},
}
# Tables that hang on somebody's bill and stay with us whole: who said what when, what partners were told (both name
# nobody), the books compared, and what providers sent, which may name others.
KEPT_BACK_WHOLE = {
    "payment_event",
    "refund_event",
    "webhook_message",
    "webhook_delivery",
    "webhook_inbox",
    "reconciliation_item",
}


def hanging_on(*names: str) -> set[str]:
    """Tables that point at some tables, or at others that do."""
    found = set(names)
    for _ in Table.metadata.tables:
        found |= {
            table.name
            for table in Table.metadata.tables.values()
            if any(key.column.table.name in found for key in table.foreign_keys)
        }
    return found


async def test_a_new_table_or_column_of_a_person_has_to_be_decided_about(
    session: AsyncSession, citizen: Caller
) -> None:
    """Whoever adds a column with somebody's data puts it into the export, or says here why not."""
    assert citizen.person is not None
    export = await collect(session, people.KEYRING, citizen.person, now=NOW)
    out = {kept.table.__tablename__: set(kept.fields) for kept in _KEPT}
    fields = {part.id: set(part.fields) for part in export.parts}
    out["person"] = fields["profile"] | {"id", "number_cipher", "name_cipher", "birth_cipher", "phone_cipher"}
    out["role_grant"] = fields["offices"]
    out["subject_request"] = fields["requests"]
    out["bill"] = fields["bills"] | {"payer_name_cipher"}
    out["bill_line"] = fields["bill_lines"]
    out["payment_attempt"] = fields["payments"]
    for table_name, part in (("receipt", "receipts"), ("refund", "refunds"), ("payment_case", "payment_cases")):
        out[table_name] = fields[part]
    of_bills = hanging_on("bill") - KEPT_BACK_WHOLE
    undecided = {}
    for table in Table.metadata.tables.values():
        points = {key.parent.name for key in table.foreign_keys if key.column.table.name == "person"}
        if not points and table.name != "person" and table.name not in of_bills:
            continue
        columns = {column.name for column in table.columns} - points
        left = columns - out.get(table.name, set()) - KEPT_BACK.get(table.name, set())
        if left:
            undecided[table.name] = left
    assert undecided == {}


class TestPdf:
    async def test_says_the_same_in_vietnamese(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        await fill(session, citizen)
        await session.commit()

        answer = await people.fetch(client, citizen, "/api/v1/me/export.pdf")

        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-disposition"] == 'attachment; filename="du-lieu-ca-nhan.pdf"'
        assert answer.headers["cache-control"] == "no-store"
        read = PdfReader(io.BytesIO(answer.content))
        text = " ".join(" ".join(page.extract_text() for page in read.pages).split())
        for said in ("Nông Văn Hùng", await people.number_of(session, citizen), "12/03/1984", WORDS, "Chủ hộ"):
            assert said in text, said
        for said in ("Loại: trình duyệt", "Vai trò: chủ hộ", "Kênh: trang web", "Tình trạng: đang giải quyết"):
            assert said in text, said
        for code in ("browser", "acknowledged", "population", "consent_given"):
            assert code not in text.split(), code
        for title in ("Hồ sơ", "Ai đã xem dữ liệu của bạn", "Sự đồng ý"):
            assert title in text
        assert read.metadata is not None
        assert read.metadata.title == "Dữ liệu cá nhân của tôi trong hệ thống bkapp"
        root: Any = read.root_object
        assert root["/Lang"] == "vi-VN"
        assert root["/ViewerPreferences"]["/DisplayDocTitle"]
        assert len(read.outline) == 21

    async def test_letters_without_a_glyph_are_marked_and_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        export = an_export(
            [{"name": "Bảo 𓂀 漢字 😀 \u202eهلا\x07\u200b", "when": NOW, "yes": True, "many": ["a", "b"]}]
        )
        with caplog.at_level(logging.DEBUG):
            body = await asyncio.to_thread(exports.pdf, export)
        text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(body)).pages)
        assert "Bảo" in text
        assert "16:00 ngày 02/11/2026" in text
        assert "có" in text
        assert "漢" not in caplog.text
        assert "missing" not in caplog.text

    @pytest.mark.parametrize("name", ["", "x" * 5000, "từ " * 3000, "<script>&amp;", "**đậm** __gạch__"])
    def test_any_text_is_drawn(self, name: str) -> None:
        assert exports.pdf(an_export([{"name": name}])).startswith(b"%PDF-")

    def test_a_long_part_is_cut_and_says_so(self) -> None:
        body = exports.pdf(an_export([{"name": f"dòng {place}"} for place in range(MOST_ROWS + 7)]))
        text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(body)).pages)
        assert f"dòng {MOST_ROWS - 1}" in text
        assert f"dòng {MOST_ROWS}" not in text
        assert "Còn 7 dòng cũ hơn trong tệp JSON." in text


def an_export(rows: list[dict[str, Any]]) -> Export:
    fields = {"name": "Tên", "when": "Lúc", "yes": "Có", "many": "Nhiều"}
    part = Part(id="a", title="Phần một", note="Ghi chú.", basis="Luật", fields=fields, rows=rows)
    nothing = msgspec.structs.replace(part, id="b", title="Phần hai", rows=[])
    return Export(title="Dữ liệu", note="Thử.", generated_at=NOW, person="p", parts=[part, nothing])
