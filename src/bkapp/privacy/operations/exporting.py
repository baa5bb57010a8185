"""Collecting everything that is held about a person."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from bkapp.address.models import GeocodeJob, HouseholdLink
from bkapp.audit.models import AuditEntry
from bkapp.db import Table
from bkapp.households.models import AddressClaim, Invitation, Membership, PopulationQuery
from bkapp.households.rules import MemberStatus
from bkapp.identity.models import EidSubject, Notice, Person, RoleGrant, SignIn
from bkapp.identity.operations import open_person
from bkapp.privacy import queries
from bkapp.privacy.exports import Export, Part
from bkapp.privacy.models import Consent, SubjectRequest
from bkapp.privacy.operations import paying
from bkapp.privacy.operations.requests import details_of
from bkapp.privacy.purposes import PURPOSES
from bkapp.privacy.rules import LIMITS, MYSELF, OFFICE
from bkapp.sealing import Keyring
from bkapp.units.models import AdminUnit

TITLE = "Dữ liệu cá nhân của tôi trong hệ thống bkapp"
NOTE = (
    "Đây là toàn bộ dữ liệu về bạn đang được lưu, kèm căn cứ pháp lý của từng phần. Bạn có thể yêu cầu chỉnh sửa, xóa, "
    "hạn chế hoặc phản đối việc xử lý. Tên của cán bộ và của người khác không có trong tệp này."
)
_PAGE = 1000
_RIGHTS = "Luật 91/2025/QH15; Nghị định 356/2025/NĐ-CP"
_SIGN_IN, _REGISTER, _ADDRESS = (
    PURPOSES[purpose].act for purpose in ("sign_in", "household_register", "address_register")
)


class _Kept(Struct, frozen=True):
    """Rows of one table that name the person in the column ``of``; ``fields`` are the columns that go out."""

    id: str
    title: str
    note: str
    basis: str
    table: type[Table]
    of: str
    newest: str
    fields: dict[str, str]


# What says nothing of the person stays out: hashes, seals, and who in an office decided.
_KEPT = (
    _Kept(
        "eid",
        "Liên kết định danh điện tử",
        "Mã của bạn ở nhà cung cấp chỉ được lưu dưới dạng băm, không đọc lại được.",
        _SIGN_IN,
        EidSubject,
        "person_id",
        "created_at",
        {"issuer": "Nhà cung cấp", "created_at": "Từ"},
    ),
    _Kept(
        "sign_ins",
        "Thiết bị và phiên đăng nhập",
        "Để bảo vệ tài khoản; phiên đã kết thúc được xóa sau một thời gian.",
        _SIGN_IN,
        SignIn,
        "person_id",
        "created_at",
        {
            "device": "Thiết bị",
            "kind": "Loại",
            "issuer": "Đăng nhập qua",
            "level": "Mức xác minh",
            "created_at": "Từ",
            "seen_at": "Dùng lần cuối",
            "expires_at": "Hết hạn",
            "ended_at": "Kết thúc",
            "end_reason": "Lý do kết thúc",
        },
    ),
    _Kept(
        "memberships",
        "Hộ gia đình",
        "Theo Cơ sở dữ liệu quốc gia về dân cư hoặc lời mời của chủ hộ.",
        _REGISTER,
        Membership,
        "person_id",
        "created_at",
        {
            "household_id": "Mã hộ trong hệ thống",
            "role": "Vai trò",
            "relation": "Quan hệ với chủ hộ",
            "source": "Nguồn",
            "status": "Tình trạng",
            "unit_code": "Mã xã thường trú",
            "created_at": "Từ",
            "checked_at": "Đối chiếu lần cuối",
            "decided_at": "Xác nhận lúc",
            "reason": "Lý do",
            "ended_at": "Kết thúc",
        },
    ),
    _Kept(
        "claims",
        "Đề nghị nhận địa chỉ",
        "Do bạn gửi thay mặt hộ.",
        _ADDRESS,
        AddressClaim,
        "person_id",
        "created_at",
        {
            "code": "Mã địa chỉ",
            "is_new": "Địa chỉ mới",
            "status": "Tình trạng",
            "created_at": "Gửi lúc",
            "decided_at": "Xử lý lúc",
            "reason": "Lý do",
        },
    ),
    _Kept(
        "invitations",
        "Lời mời vào hộ do bạn gửi",
        "Mã mời chỉ được lưu dưới dạng băm.",
        _REGISTER,
        Invitation,
        "invited_by",
        "created_at",
        {
            "relation": "Quan hệ",
            "created_at": "Gửi lúc",
            "expires_at": "Hết hạn",
            "used_at": "Dùng lúc",
            "revoked_at": "Hủy lúc",
        },
    ),
    _Kept(
        "population_queries",
        "Tra cứu Cơ sở dữ liệu quốc gia về dân cư",
        "Mỗi lần hệ thống hỏi về bạn.",
        _REGISTER,
        PopulationQuery,
        "person_id",
        "asked_at",
        {"purpose": "Mục đích", "asked_at": "Hỏi lúc", "answered_at": "Trả lời lúc", "outcome": "Kết quả"},
    ),
    _Kept(
        "files",
        "Tệp địa chỉ bạn gửi lên",
        "Được xóa sau ít ngày; nội dung tải về từ chính yêu cầu đó.",
        _ADDRESS,
        GeocodeJob,
        "caller",
        "created_at",
        {"file_name": "Tên tệp", "status": "Tình trạng", "rows_total": "Số dòng", "created_at": "Gửi lúc"},
    ),
    _Kept(
        "consents",
        "Sự đồng ý",
        "Bằng chứng về việc bạn đồng ý và rút lại, kèm phiên bản nội dung đã hiển thị.",
        _RIGHTS,
        Consent,
        "person_id",
        "given_at",
        {
            "purpose": "Mục đích",
            "text_version": "Phiên bản",
            "channel": "Kênh",
            "given_at": "Đồng ý lúc",
            "withdrawn_at": "Rút lại lúc",
            "withdrawn_channel": "Kênh rút lại",
        },
    ),
    _Kept(
        "notices",
        "Thông báo",
        "Những gì hệ thống báo cho bạn.",
        _SIGN_IN,
        Notice,
        "person_id",
        "created_at",
        {"kind": "Loại", "data": "Nội dung", "created_at": "Lúc", "read_at": "Đọc lúc"},
    ),
)


async def collect(session: AsyncSession, keyring: Keyring, person_id: UUID, *, now: datetime) -> Export:
    """Everything that is held about a person, opened for them.  Whoever calls this records the read."""
    kept = {each.id: await _part(session, each, person_id) for each in _KEPT}
    return Export(
        title=TITLE,
        note=NOTE,
        generated_at=now,
        person=str(person_id),
        parts=[
            await _profile(session, keyring, person_id),
            kept["eid"],
            kept["sign_ins"],
            await _offices(session, person_id),
            kept["memberships"],
            await _addresses(session, person_id),
            kept["claims"],
            kept["invitations"],
            kept["population_queries"],
            kept["files"],
            *await paying.parts_of(session, keyring, person_id),
            kept["consents"],
            await _requests(session, keyring, person_id),
            kept["notices"],
            await _reads(session, person_id),
            await _audit(session, person_id),
        ],
    )


async def _part(session: AsyncSession, kept: _Kept, person_id: UUID) -> Part:
    of: InstrumentedAttribute[Any] = getattr(kept.table, kept.of)
    me = str(person_id) if of.type.python_type is str else person_id
    columns = [getattr(kept.table, name) for name in kept.fields]
    found = await session.execute(select(*columns).where(of == me).order_by(getattr(kept.table, kept.newest).desc()))
    return Part(
        id=kept.id,
        title=kept.title,
        note=kept.note,
        basis=kept.basis,
        fields=kept.fields,
        rows=[dict(zip(kept.fields, row, strict=True)) for row in found],
    )


async def _profile(session: AsyncSession, keyring: Keyring, person_id: UUID) -> Part:
    opened = await open_person(session, keyring, person_id)
    person = await session.get_one(Person, person_id, populate_existing=True)
    return Part(
        id="profile",
        title="Hồ sơ",
        note="Do hệ thống định danh quốc gia xác nhận khi bạn đăng nhập; số điện thoại chỉ được lưu khi bạn đồng ý.",
        basis=_SIGN_IN,
        fields={
            "number": "Số định danh",
            "name": "Họ tên",
            "birth": "Ngày sinh",
            "phone": "Số điện thoại",
            "level": "Mức xác minh danh tính",
            "created_at": "Lập hồ sơ",
            "restricted_at": "Hạn chế xử lý từ",
            "is_demo": "Dữ liệu thử",
        },
        rows=[
            {
                "number": opened.number,
                "name": opened.name,
                "birth": opened.birth,
                "phone": opened.phone,
                "level": opened.level,
                "created_at": person.created_at,
                "restricted_at": person.restricted_at,
                "is_demo": person.is_demo,
            }
        ],
    )


async def _offices(session: AsyncSession, person_id: UUID) -> Part:
    found = await session.execute(
        select(RoleGrant.role, AdminUnit.full_name, RoleGrant.granted_at, RoleGrant.expires_at, RoleGrant.ended_at)
        .outerjoin(AdminUnit, AdminUnit.id == RoleGrant.unit_id)
        .where(RoleGrant.person_id == person_id)
        .order_by(RoleGrant.granted_at.desc())
    )
    fields = {
        "role": "Vai trò",
        "unit": "Đơn vị",
        "granted_at": "Từ",
        "expires_at": "Hết hạn",
        "ended_at": "Kết thúc",
    }
    return Part(
        id="offices",
        title="Chức vụ trong hệ thống",
        note="Chức vụ được giao để xử lý công việc.",
        basis=_SIGN_IN,
        fields=fields,
        rows=[dict(zip(fields, row, strict=True)) for row in found],
    )


async def _addresses(session: AsyncSession, person_id: UUID) -> Part:
    mine = select(Membership.household_id).where(
        Membership.person_id == person_id, Membership.status == MemberStatus.ACTIVE
    )
    found = await session.execute(
        select(HouseholdLink.code, HouseholdLink.valid_from, HouseholdLink.valid_to)
        .where(HouseholdLink.household_id.in_(mine), HouseholdLink.recorded_to.is_(None))
        .order_by(HouseholdLink.valid_from.desc())
    )
    fields = {"code": "Mã địa chỉ", "valid_from": "Từ ngày", "valid_to": "Đến trước ngày"}
    return Part(
        id="addresses",
        title="Địa chỉ số của hộ",
        note="Mã địa chỉ là của ngôi nhà; ở đây là thời gian hộ của bạn sống tại đó.",
        basis=_ADDRESS,
        fields=fields,
        rows=[dict(zip(fields, row, strict=True)) for row in found],
    )


async def _requests(session: AsyncSession, keyring: Keyring, person_id: UUID) -> Part:
    found = await session.scalars(
        select(SubjectRequest).where(SubjectRequest.person_id == person_id).order_by(SubjectRequest.received_at.desc())
    )
    return Part(
        id="requests",
        title="Yêu cầu về dữ liệu cá nhân",
        note="Những gì bạn đã yêu cầu, thời hạn và kết quả.",
        basis=_RIGHTS,
        fields={
            "asked": "Yêu cầu",
            "details": "Nội dung",
            "status": "Tình trạng",
            "received_at": "Nhận lúc",
            "acknowledged_at": "Báo tiếp nhận lúc",
            "due_at": "Hạn",
            "extension_reason": "Lý do gia hạn",
            "closed_at": "Xong lúc",
            "outcome": "Kết quả",
        },
        rows=[
            {
                "asked": LIMITS[row.kind].title,
                "details": details_of(keyring, row.id, row.details_cipher),
                "status": row.status,
                "received_at": row.received_at,
                "acknowledged_at": row.acknowledged_at,
                "due_at": row.due_at,
                "extension_reason": row.extension_reason,
                "closed_at": row.closed_at,
                "outcome": row.outcome,
            }
            for row in found
        ],
    )


async def _reads(session: AsyncSession, person_id: UUID) -> Part:
    rows: list[dict[str, Any]] = []
    page = await queries.reads(session, person_id, limit=_PAGE)
    while page:
        rows += [{"at": read.at, "who": read.who, "what": read.what, "about": read.about} for read in page]
        page = await queries.reads(session, person_id, limit=_PAGE, before=page[-1].id) if len(page) == _PAGE else []
    return Part(
        id="reads",
        title="Ai đã xem dữ liệu của bạn",
        note="Mọi lần đọc dữ liệu về bạn, hộ của bạn và địa chỉ nơi bạn sống.",
        basis=_RIGHTS,
        fields={"at": "Lúc", "who": "Ai", "what": "Việc", "about": "Về"},
        rows=rows,
    )


async def _audit(session: AsyncSession, person_id: UUID) -> Part:
    me = str(person_id)
    mine = [me]
    for theirs in (
        select(AddressClaim.id).where(AddressClaim.person_id == person_id),
        select(Invitation.id).where(Invitation.invited_by == person_id),
    ):
        mine += [str(each) for each in await session.scalars(theirs)]
    mine += await paying.subjects_of(session, person_id)
    found = await session.execute(
        select(AuditEntry.seq, AuditEntry.at, AuditEntry.kind, AuditEntry.actor, AuditEntry.data)
        .where(AuditEntry.subject.in_(mine))
        .order_by(AuditEntry.seq.desc())
    )
    return Part(
        id="audit",
        title="Nhật ký kiểm toán về bạn",
        note="Các việc đã làm với tài khoản của bạn; được giữ lâu dài và chỉ ghi mã nội bộ, không ghi danh tính.",
        basis=_RIGHTS,
        fields={"number": "Số", "at": "Lúc", "kind": "Việc", "by": "Người làm", "data": "Chi tiết"},
        rows=[
            {
                "number": row.seq,
                "at": row.at,
                "kind": row.kind,
                # Another person's id is not this person's data.
                "by": MYSELF if row.actor == me else OFFICE,
                "data": msgspec.json.decode(row.data),
            }
            for row in found
        ],
    )
