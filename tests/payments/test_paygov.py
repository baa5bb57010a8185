"""Paygov: what is signed, what is asked, what is believed."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.payments.providers import (
    Finding,
    Hearing,
    HookRefused,
    Merchant,
    NoAnswer,
    NotSent,
    Outcome,
    Provider,
    Refused,
    Verdict,
)
from bkapp.payments.providers.asking import payer_url
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.paygov import (
    CONFIRM_SIGNED,
    INIT_SIGNED,
    LOOKUP_SIGNED,
    QUERY_SIGNED,
    Paygov,
    answer_checksum,
    confirm_checksum,
    init_checksum,
    init_message,
    lookup_answer,
    lookup_checksum,
    lookup_refused,
    query_checksum,
    read_lookup,
)
from bkapp.payments.providers.receipts import Owed, owed_for, receipt_block
from tests.payments.provider_peers import (
    BROKEN_BODIES,
    NOW,
    ORDER,
    REFERENCE,
    UNREADABLE,
    answer,
    mangled,
    post,
    tampered,
    wire,
    wire_to,
)
from tests.practice.peers import running

SECRET = "s3cret"
MERCHANT = Merchant(
    key="paygov",
    provider="paygov",
    code="DOITAC01",
    secrets={"checksum": (SECRET, "older"), "bearer": ("token-1",)},
    options={
        "init_url": "https://platform.test/init",
        "query_url": "https://platform.test/query",
        "bill_url": "https://platform.test/bill",
        "agency_code": "000.00.01.H03",
    },
    home="https://bkapp.example",
)
PAYGOV: Provider = Paygov(Wire())
PAGE = "https://platform.test/pay?t=1"
CONFIRMED = {
    "LoaiBanTin": "CONFIRM",
    "MaLoi": "00",
    "MaDoiTac": "DOITAC01",
    "MaThamChieu": REFERENCE,
    "SoTien": "20000",
    "MaTienTe": "VND",
    "MaGiaoDich": "GD123456",
    "MaNganHang": "VCB",
    "ThoiGianGD": "20261124230455",
    "ThongTinGiaoDich": "Thanh toan ho so",
}
PAID = Finding(
    references=[REFERENCE],
    outcome=Outcome.PAID,
    amount=20_000,
    transaction="GD123456",
    at=datetime(2026, 11, 24, 16, 4, 55, tzinfo=UTC),
    code="00",
)
ASKED = {
    "LoaiBanTin": "LOOKUP_BILL",
    "PhienBan": "1.0.6",
    "MaDoiTac": "DOITAC01",
    "MaHoSo": ORDER.dossier_code,
    "ThoiGianGD": "20261124230455",
}


def confirmation(secret: str = SECRET, **changed: Any) -> bytes:
    """A confirmation, signed after its fields were changed; ``_``: changed after it was signed."""
    after = changed.pop("_", {})
    fields = CONFIRMED | {name: value for name, value in changed.items() if name in CONFIRM_SIGNED}
    said = {**fields, **changed, "MaXacThuc": confirm_checksum(fields, secret), **after}
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


def reply(secret: str = SECRET, /, **changed: Any) -> bytes:
    """An answer to a QUERY: a confirmation with a state, and without what is None."""
    fields = {name: value for name, value in {**CONFIRMED, **changed}.items() if value is not None}
    if "LoaiBanTin" not in changed:
        del fields["LoaiBanTin"]
    said = {"TrangThaiGD": "1", "MoTaLoi": "x", **fields, "MaXacThuc": answer_checksum(fields, secret)}
    return json.dumps({name: value for name, value in said.items() if changed.get(name, "") is not None}).encode()


def hear(body: bytes, merchant: Merchant = MERCHANT, now: datetime = NOW) -> Hearing:
    return PAYGOV.hear(merchant, post(body), now=now)


def refusal(body: bytes, merchant: Merchant = MERCHANT, now: datetime = NOW) -> HookRefused:
    with pytest.raises(HookRefused) as caught:
        hear(body, merchant, now)
    assert REFERENCE not in caught.value.reason
    return caught.value


class TestVectors:
    @pytest.mark.parametrize(
        ("sign", "names", "text", "right"),
        [
            (
                init_checksum,
                INIT_SIGNED,
                (
                    "INIT|1.0.6|DOITAC01|dvc00000001H03220315000120220315101530|20000|PAY|1|1|vi-VN|VND|PAYMENT"
                    "|THANH TOAN HO SO 000.00.01.H03-220315-0001|20220315101530|127.0.0.1"
                ),
                "68f7288b0b79bf6c29040e17dc5cce91ec2953df10047f23bf91a201fdf4e7a4",
            ),
            (
                confirm_checksum,
                CONFIRM_SIGNED,
                (
                    "CONFIRM|00|DOITAC01|dvc00000001H03220315000120220315101530|20000|VND|GD123456|VCB|20220315101630"
                    "|THANH TOAN HO SO 000.00.01.H03-220315-0001"
                ),
                "34c26e5b533181bc64e36c1ccd3af5a7e72a83264a2887f1f70bac829a11c505",
            ),
        ],
        ids=["init", "confirm"],
    )
    def test_the_known_checksums(self, sign: Any, names: tuple[str, ...], text: str, right: str) -> None:
        assert sign(dict(zip(names, text.split("|"), strict=True)), SECRET) == right

    @pytest.mark.parametrize(
        ("sign", "names"),
        [
            (init_checksum, INIT_SIGNED),
            (confirm_checksum, CONFIRM_SIGNED),
            (query_checksum, QUERY_SIGNED),
            (lookup_checksum, LOOKUP_SIGNED),
        ],
        ids=["init", "confirm", "query", "lookup"],
    )
    def test_a_bar_within_any_field_is_refused(self, sign: Any, names: tuple[str, ...]) -> None:
        for name in names:
            with pytest.raises(ValueError, match=r"\|"):
                sign({**dict.fromkeys(names, "x"), name: "a|b"}, SECRET)


class TestConfirmations:
    def test_a_confirmation_is_believed(self) -> None:
        heard = hear(confirmation())
        assert heard.finding == PAID
        assert heard.asks == ""
        assert heard.event_id == hear(confirmation(secret="older")).event_id
        assert heard.event_id != hear(confirmation(TrangThaiGD="3")).event_id
        assert heard.event_id != hear(confirmation(MaGiaoDich="GD123457")).event_id

    def test_numbers_may_be_written_as_numbers_and_other_fields_change_nothing(self) -> None:
        heard = hear(confirmation(_={"SoTien": 20000, "TrangThaiGD": 1, "MaHoSo": "H03", "Token": None}))
        assert heard.finding == PAID

    @pytest.mark.parametrize(
        ("code", "state", "outcome"),
        [
            ("00", None, Outcome.PAID),
            ("00", "1", Outcome.PAID),
            ("00", "3", Outcome.PENDING),
            ("00", "4", Outcome.FAILED),
            ("24", None, Outcome.FAILED),
            ("24", "4", Outcome.FAILED),
            ("24", "3", Outcome.PENDING),
        ],
    )
    def test_the_state_only_takes_away_from_what_is_signed(
        self, code: str, state: str | None, outcome: Outcome
    ) -> None:
        finding = hear(confirmation(MaLoi=code, TrangThaiGD=state)).finding
        assert finding is not None
        assert (finding.outcome, finding.amount, finding.code) == (outcome, 20_000, code)

    def test_a_failure_needs_no_transaction(self) -> None:
        finding = hear(confirmation(MaLoi="24", MaGiaoDich="")).finding
        assert finding is not None
        assert finding.transaction is None

    @pytest.mark.parametrize("name", [*CONFIRM_SIGNED, "MaXacThuc"])
    def test_a_lack_is_malformed(self, name: str) -> None:
        assert refusal(confirmation(_={name: None})).verdict is Verdict.MALFORMED

    @pytest.mark.parametrize(
        "changed",
        [
            {"MaGiaoDich": ""},
            {"MaGiaoDich": " x"},
            {"MaGiaoDich": "GD\u0000"},
            {"MaTienTe": "USD"},
            {"SoTien": "20000.0"},
            {"SoTien": "-20000"},
            {"SoTien": "٢٠٠٠٠"},
            {"SoTien": "020000"},
            {"MaThamChieu": ""},
            {"MaThamChieu": "đ"},
            {"MaThamChieu": "T" * 256},
            {"MaLoi": "đ"},
            {"MaLoi": "24", "TrangThaiGD": "1"},
            {"TrangThaiGD": "2"},
            {"TrangThaiGD": True},
            {"_": {"TrangThaiGD": [1]}},
            {"_": {"SoTien": 20000.0}},
            {"_": {"SoTien": ["20000"]}},
            {"_": {"x": "y" * 70_000}},
            {"_": {"ThongTinGiaoDich": "a|b"}},
            {"_": {"ThongTinGiaoDich": "\ud800"}},
            {"_": {"MaXacThuc": None}},
            {"_": {"MaXacThuc": 7.5}},
        ],
    )
    def test_what_is_signed_and_makes_no_sense_is_malformed(self, changed: dict[str, Any]) -> None:
        assert refusal(confirmation(**changed)).verdict is Verdict.MALFORMED

    def test_no_secret_of_ours_is_no_signature(self) -> None:
        assert refusal(confirmation(secret="older2")).verdict is Verdict.BAD_SIGNATURE
        nobody = msgspec.structs.replace(MERCHANT, secrets={})
        assert refusal(confirmation(), nobody).verdict is Verdict.BAD_SIGNATURE
        assert refusal(confirmation(secret=""), nobody).verdict is Verdict.BAD_SIGNATURE
        upper = confirm_checksum(CONFIRMED, SECRET).upper()
        assert refusal(confirmation(_={"MaXacThuc": upper})).verdict is Verdict.BAD_SIGNATURE

    def test_a_message_for_another_partner_is_not_ours(self) -> None:
        assert refusal(confirmation(MaDoiTac="DOITAC02")).verdict is Verdict.NO_ORDER

    @pytest.mark.parametrize(
        ("moment", "verdict"),
        [
            ("20261124230455", None),  # HH, and so 16:04 UTC
            ("20261124232009", None),
            ("20261124232010", Verdict.STALE),
            ("20261117230509", None),
            ("20261117230508", Verdict.STALE),
            ("20261124110455", None),  # what a 12-hour clock makes of it: only twelve hours wrong
            ("20261124240000", Verdict.MALFORMED),
            ("20261324230455", Verdict.MALFORMED),
            ("2026112411045", Verdict.MALFORMED),
            ("20261124110455 PM", Verdict.MALFORMED),
            ("2026-11-24 23:04", Verdict.MALFORMED),
            ("00010101000000", Verdict.MALFORMED),
            ("99991231235959", Verdict.STALE),
        ],
    )
    def test_times_are_of_the_24_hour_clock_and_near_ours(self, moment: str, verdict: Verdict | None) -> None:
        if verdict is None:
            assert hear(confirmation(ThoiGianGD=moment)).finding is not None
        else:
            assert refusal(confirmation(ThoiGianGD=moment)).verdict is verdict

    def test_what_was_looked_up_is_paid_under_its_dossier(self) -> None:
        finding = hear(confirmation(MaThamChieu="000.00.01.H03-261124-000120261124230000")).finding
        assert finding is not None
        assert finding.references == ["000.00.01.H03-261124-000120261124230000", "000.00.01.H03-261124-0001"]

    @given(st.data())
    def test_one_character_changed_in_what_is_signed_is_refused(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([*CONFIRM_SIGNED, "MaXacThuc"]))
        right = json.loads(confirmation())[name]
        refused = refusal(confirmation(_={name: data.draw(tampered(right))}))
        assert refused.verdict in {Verdict.BAD_SIGNATURE, Verdict.MALFORMED}

    @given(st.data())
    def test_a_mangled_message_is_refused_or_says_the_same(self, data: st.DataObject) -> None:
        with suppress(HookRefused):
            finding = hear(data.draw(mangled(confirmation(TrangThaiGD="1")))).finding
            assert finding is not None
            assert (finding.references, finding.amount) == ([REFERENCE], 20_000)
            assert finding.transaction == "GD123456"

    @given(st.binary(max_size=300) | st.text(alphabet='{}[]",:\\u0 1eE-', max_size=60).map(str.encode))
    def test_any_bytes_are_refused(self, body: bytes) -> None:
        assert refusal(body).verdict is Verdict.MALFORMED

    @pytest.mark.parametrize("name", BROKEN_BODIES)
    def test_what_is_no_message_is_malformed(self, name: str) -> None:
        assert refusal(BROKEN_BODIES[name]).verdict is Verdict.MALFORMED
        assert refusal(BROKEN_BODIES["twice"].replace(b"a", b"MaXacThuc")).verdict is Verdict.MALFORMED

    def test_a_field_that_is_there_twice_is_malformed(self) -> None:
        twice = confirmation()[:-1] + b', "SoTien": "1"}'
        assert refusal(twice).verdict is Verdict.MALFORMED

    @pytest.mark.parametrize("verdict", Verdict)
    def test_every_verdict_has_a_signed_answer(self, verdict: Verdict) -> None:
        context = hear(confirmation()).context
        answered = PAYGOV.answer(MERCHANT, verdict, context, now=NOW)
        said = json.loads(answered.body)
        assert answered.status == 200
        assert (said["MaLoi"] == "00") is (verdict in {Verdict.TAKEN, Verdict.KNOWN})
        assert (said["MaDoiTac"], said["MaThamChieu"], said["ThoiGianGD"]) == ("DOITAC01", REFERENCE, "20261124230455")
        assert said["MaXacThuc"] == answer_checksum(said, SECRET)

    def test_what_was_not_well_signed_is_not_repeated(self) -> None:
        refused = refusal(confirmation(secret="guess"))
        said = json.loads(PAYGOV.answer(MERCHANT, refused.verdict, refused.context, now=NOW).body)
        assert (said["MaLoi"], said["MaThamChieu"], said["ThoiGianGD"]) == ("02", "", "20261124230509")
        nobody = msgspec.structs.replace(MERCHANT, secrets={})
        assert json.loads(PAYGOV.answer(nobody, Verdict.BROKEN, {}, now=NOW).body)["MaXacThuc"] == ""

    def test_the_browser_proves_nothing(self) -> None:
        assert PAYGOV.came_back(MERCHANT, b"MaLoi=00", now=NOW) is None


def init_reply(**message: Any) -> bytes:
    return json.dumps({"error_code": "0", "message": json.dumps({"UrlThanhToan": PAGE, **message})}).encode()


class TestBeginning:
    async def test_an_order_is_sent_as_it_is_and_the_payer_redirected(self) -> None:
        asked: list[httpx.Request] = []

        async def platform(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return answer(200, init_reply(MaThamChieu=REFERENCE, SoTien=20000))

        begun = await Paygov(wire_to(platform)).begin(MERCHANT, ORDER, now=NOW)
        again = await Paygov(wire_to(platform)).begin(MERCHANT, ORDER, now=NOW + timedelta(hours=1))

        assert begun.redirect_url == again.redirect_url == PAGE
        assert asked[0].content == asked[1].content
        assert (str(asked[0].url), asked[0].headers["authorization"]) == (
            "https://platform.test/init",
            "Bearer token-1",
        )
        said = json.loads(asked[0].content)
        assert said["ThoiGianGD"] == "20261124230309"
        assert said["ThongTinGiaoDich"] == "Thanh toan ho so 000.00.01.H03-261124-0001"
        assert (said["MaThamChieu"], said["SoTien"], said["Ip"]) == (REFERENCE, "20000", "203.0.113.7")
        assert said["UrlTraVe"] == ORDER.return_url
        assert said["MaXacThuc"] == init_checksum(said, SECRET)

    def test_the_receipt_block_adds_up_and_names_nobody(self) -> None:
        block = init_message(MERCHANT, ORDER)["ThongTinBienLai"]
        assert [line["SoTien"] for line in block["PhiLePhi"]] == ["15000", "5000"]
        assert sum(int(line["SoTien"]) for line in block["DSKhoanNop"]) == ORDER.amount
        assert (block["MaDVC"], block["MaDonVi"], block["TKThuHuong"]) == (
            "2.000815.01",
            "000.00.01.H03",
            "0011001234567",
        )
        assert {block[name] for name in ("HoTenNguoiNop", "SoCMNDNguoiNop", "DiaChiNguoiNop")} == {""}
        long = msgspec.structs.replace(owed_for(ORDER), procedure_name="Ơ" * 300, dossier_code="")
        assert len(receipt_block(long, "")["TenTTHC"]) == 250
        assert receipt_block(long, "")["MaHoSo"] == ORDER.bill_code
        with pytest.raises(ValueError, match="add up"):
            receipt_block(msgspec.structs.replace(owed_for(ORDER), amount=19_999), "")

    def test_a_bar_in_a_dossier_code_does_not_reach_what_is_signed(self) -> None:
        odd = msgspec.structs.replace(ORDER, dossier_code="H03|1")
        assert init_message(MERCHANT, odd)["ThongTinGiaoDich"] == "Thanh toan ho so H03 1"
        with pytest.raises(ValueError, match=r"\|"):
            init_message(msgspec.structs.replace(MERCHANT, code="A|B"), ORDER)

    async def test_a_refusal_has_its_code(self) -> None:
        with pytest.raises(Refused) as caught:
            await Paygov(wire(200, b'{"error_code": -5, "message": "sai"}')).begin(MERCHANT, ORDER, now=NOW)
        assert caught.value.code == "-5"

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            *((200, body) for body in UNREADABLE.values()),
            (500, init_reply()),
            (404, init_reply()),
            (302, init_reply()),
            (200, init_reply(MaThamChieu="TT0000000000")),
            (200, init_reply(SoTien="21000")),
            (200, init_reply(UrlThanhToan="http://platform.test/pay")),
            (200, init_reply(UrlThanhToan="javascript:alert(1)")),
            (200, init_reply(UrlThanhToan=None)),
            (200, b'{"error_code": "0", "message": {"UrlThanhToan": "https://platform.test/pay"}}'),
            (200, b'{"error_code": "0", "message": "https://platform.test/pay"}'),
            (200, b'{"error_code": "0", "error_code": "1", "message": "x"}'),
            (200, b'{"error_code": "no such thing", "message": "x"}'),
            (200, b'{"error_code": null}'),
        ],
    )
    async def test_what_cannot_be_read_leaves_it_open(self, status: int, body: bytes) -> None:
        with pytest.raises(NoAnswer):
            await Paygov(wire(status, body)).begin(MERCHANT, ORDER, now=NOW)

    @pytest.mark.parametrize(
        "merchant",
        [
            msgspec.structs.replace(MERCHANT, options={}),
            msgspec.structs.replace(MERCHANT, secrets={}),
        ],
    )
    async def test_without_settings_nothing_is_asked(self, merchant: Merchant) -> None:
        with pytest.raises(NotSent):
            await Paygov(wire(200, init_reply())).begin(merchant, ORDER, now=NOW)

    @pytest.mark.parametrize(
        "address",
        [
            "http://platform.test/",
            "https://",
            "https:platform.test",
            "//platform.test/",
            "https://user@platform.test/",
            "https://platform.test@evil.test/",
            "https://platform.test\\@evil.test/",
            "https://platform.test/ x",
            "https://platform.test/\r\nSet-Cookie: a=b",
            "https://plätform.test/",
            "https://[::1",
            "https://platform.test:99999/",
            "https://platform.test/" + "x" * 2048,
            "http://localhost.evil.test/",
            "data:text/html,x",
            "",
        ],
    )
    def test_a_payer_is_sent_to_https_only(self, address: str) -> None:
        with pytest.raises(ValueError, match=r"address|Port|IPv6"):
            payer_url(address)

    @pytest.mark.parametrize("address", [PAGE, "http://localhost:8001/thanh-toan/x", "http://127.0.0.1/x?a=%20#b"])
    def test_or_to_this_machine(self, address: str) -> None:
        assert payer_url(address) == address


class TestAsking:
    async def test_a_payment_is_found(self) -> None:
        asked: list[dict[str, str]] = []

        async def platform(request: httpx.Request) -> httpx.Response:
            asked.append(json.loads(request.content))
            return answer(200, reply())

        assert await Paygov(wire_to(platform)).inquire(MERCHANT, ORDER, now=NOW) == PAID
        assert asked[0]["LoaiBanTin"] == "QUERY"
        assert (asked[0]["MaThamChieu"], asked[0]["ThoiGianGD"]) == (REFERENCE, "20261124230309")
        assert asked[0]["MaXacThuc"] == query_checksum(asked[0], SECRET)

    @pytest.mark.parametrize(
        ("body", "outcome"),
        [
            (reply("older"), Outcome.PAID),
            (reply(LoaiBanTin="QUERY"), Outcome.PAID),
            (reply(TrangThaiGD="3", MaGiaoDich=None, MaNganHang=None), Outcome.PENDING),
            (reply(TrangThaiGD="4", MaLoi="24", SoTien=None), Outcome.FAILED),
            (reply(TrangThaiGD="4"), Outcome.FAILED),
            (reply(TrangThaiGD=None, MaLoi="01", SoTien=None), Outcome.ABSENT),
        ],
    )
    async def test_the_state_is_read(self, body: bytes, outcome: Outcome) -> None:
        finding = await Paygov(wire(200, body)).inquire(MERCHANT, ORDER, now=NOW)
        assert (finding.outcome, finding.references) == (outcome, [REFERENCE])

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            *((200, body) for body in UNREADABLE.values()),
            (500, reply()),
            (401, reply()),
            (200, reply("guess")),
            (200, reply(MaThamChieu="TT0000000000")),
            (200, reply(MaDoiTac="DOITAC02")),
            (200, reply(TrangThaiGD=None)),
            (200, reply(TrangThaiGD="2")),
            (200, reply(TrangThaiGD=None, MaLoi="99")),
            (200, reply(MaLoi="24")),
            (200, reply(MaGiaoDich="")),
            (200, reply(MaTienTe="USD")),
            *((200, reply(**{name: None})) for name in CONFIRM_SIGNED[1:]),
            (200, json.dumps({**json.loads(reply()), "MaXacThuc": None}).encode()),
            (200, json.dumps({**json.loads(reply()), "SoTien": "2000"}).encode()),
        ],
    )
    async def test_what_cannot_be_believed_says_nothing(self, status: int, body: bytes) -> None:
        with pytest.raises(NoAnswer):
            await Paygov(wire(status, body)).inquire(MERCHANT, ORDER, now=NOW)

    async def test_another_amount_is_told_as_it_is(self) -> None:
        finding = await Paygov(wire(200, reply(SoTien="19000"))).inquire(MERCHANT, ORDER, now=NOW)
        assert (finding.outcome, finding.amount) == (Outcome.PAID, 19_000)

    async def test_over_a_socket(self) -> None:
        async def platform(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                while (await receive())["type"] == "lifespan.startup":
                    await send({"type": "lifespan.startup.complete"})
                await send({"type": "lifespan.shutdown.complete"})
                return
            if scope["path"] == "/slow":
                await asyncio.sleep(1)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": reply()})

        async with running(platform) as url:
            wire = Wire(patience=0.5)
            ours = Paygov(wire)
            at = msgspec.structs.replace(MERCHANT, options={"query_url": f"{url}/query"})
            slow = msgspec.structs.replace(MERCHANT, options={"query_url": f"{url}/slow"})
            assert await ours.inquire(at, ORDER, now=NOW) == PAID
            with pytest.raises(NoAnswer):
                await ours.inquire(slow, ORDER, now=NOW)
        with pytest.raises(NotSent):
            await ours.inquire(at, ORDER, now=NOW)
        await wire.close()


def bill_reply(**changed: Any) -> bytes:
    fields = {
        "MaLoi": "00",
        "MaDoiTac": "DOITAC01",
        "MaThamChieu": REFERENCE,
        "ThoiGianGD": "20261124230309",
        "BienLai": b64encode(b"%PDF-1.7 x").decode(),
        **changed,
    }
    return json.dumps({"MaXacThuc": answer_checksum(fields, SECRET), **fields}).encode()


class TestReceipts:
    async def test_the_platforms_receipt_is_fetched(self) -> None:
        asked: list[dict[str, str]] = []

        async def platform(request: httpx.Request) -> httpx.Response:
            asked.append(json.loads(request.content))
            return answer(200, bill_reply())

        assert await Paygov(wire_to(platform)).bill_pdf(MERCHANT, ORDER, now=NOW) == b"%PDF-1.7 x"
        assert asked[0]["LoaiBanTin"] == "GET_BILL"
        assert asked[0]["MaXacThuc"] == query_checksum(asked[0], SECRET)

    async def test_or_refused(self) -> None:
        with pytest.raises(Refused) as caught:
            await Paygov(wire(200, bill_reply(MaLoi="07"))).bill_pdf(MERCHANT, ORDER, now=NOW)
        assert caught.value.code == "07"

    @pytest.mark.parametrize(
        "changed",
        [{"BienLai": "PGh0bWw+"}, {"BienLai": "%PDF-"}, {"BienLai": None}, {"MaThamChieu": "TT0"}, {"MaXacThuc": "0"}],
    )
    async def test_or_not_believed(self, changed: Mapping[str, Any]) -> None:
        with pytest.raises(NoAnswer):
            await Paygov(wire(200, bill_reply(**changed))).bill_pdf(MERCHANT, ORDER, now=NOW)


def lookup(secret: str = SECRET, after: Mapping[str, Any] | None = None, **changed: Any) -> bytes:
    fields = {**ASKED, **changed}
    return json.dumps({**fields, "MaXacThuc": lookup_checksum(fields, secret), **(after or {})}).encode()


def lookup_refusal(body: bytes) -> Verdict:
    with pytest.raises(HookRefused) as caught:
        read_lookup(MERCHANT, body, NOW)
    return caught.value.verdict


class TestLookups:
    def test_the_hub_asks_about_a_dossier(self) -> None:
        assert read_lookup(MERCHANT, lookup(), NOW) == ORDER.dossier_code
        assert read_lookup(MERCHANT, lookup(secret="older"), NOW) == ORDER.dossier_code

    @pytest.mark.parametrize(
        ("body", "verdict"),
        [
            (lookup("guess"), Verdict.BAD_SIGNATURE),
            (lookup(MaDoiTac="DOITAC02"), Verdict.NO_ORDER),
            (lookup(LoaiBanTin="QUERY"), Verdict.MALFORMED),
            (lookup(MaHoSo=""), Verdict.MALFORMED),
            (lookup(MaHoSo="x\u0000"), Verdict.MALFORMED),
            (lookup(after={"MaHoSo": "a|b"}), Verdict.MALFORMED),
            (lookup(after={"MaHoSo": None}), Verdict.MALFORMED),
            (lookup(ThoiGianGD="2026112411045"), Verdict.MALFORMED),
            (lookup(ThoiGianGD="20261124225008"), Verdict.STALE),
            (lookup(ThoiGianGD="20261124232010"), Verdict.STALE),
            *((body, Verdict.MALFORMED) for body in BROKEN_BODIES.values()),
        ],
    )
    def test_what_is_no_lookup_is_refused(self, body: bytes, verdict: Verdict) -> None:
        assert lookup_refusal(body) is verdict

    @given(st.data())
    def test_one_character_changed_is_refused(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([*LOOKUP_SIGNED, "MaXacThuc"]))
        spoilt = lookup(after={name: data.draw(tampered(json.loads(lookup())[name]))})
        assert lookup_refusal(spoilt) in {Verdict.BAD_SIGNATURE, Verdict.MALFORMED}

    @given(st.data())
    def test_any_bytes_are_refused_or_mean_the_same(self, data: st.DataObject) -> None:
        with suppress(HookRefused):
            assert read_lookup(MERCHANT, data.draw(mangled(lookup()) | st.binary()), NOW) == ORDER.dossier_code

    def test_and_is_told_what_is_owed(self) -> None:
        owed: Owed = owed_for(ORDER)
        said = json.loads(lookup_answer(MERCHANT, owed, known=True, now=NOW).body)
        assert said["error_code"] == "1"
        assert said["message"]["MaTraCuuTT"] == f"{ORDER.dossier_code}20261124230509"
        assert (said["message"]["MaHoSo"], said["message"]["SoTien"]) == (ORDER.dossier_code, "20000")
        assert "MaThamChieu" not in said["message"]
        named = lookup_answer(MERCHANT, owed, known=True, now=NOW, reference=REFERENCE)
        assert json.loads(named.body)["message"]["MaThamChieu"] == REFERENCE
        assert json.loads(lookup_answer(MERCHANT, None, known=True, now=NOW).body)["error_code"] == "0"
        assert json.loads(lookup_answer(MERCHANT, None, known=False, now=NOW).body)["error_code"] == "-1"

    @pytest.mark.parametrize("verdict", [Verdict.BAD_SIGNATURE, Verdict.MALFORMED, Verdict.STALE])
    def test_who_is_not_believed_is_told_nothing(self, verdict: Verdict) -> None:
        said = json.loads(lookup_refused(verdict).body)
        assert (said["error_code"], set(said)) == ("-1", {"error_code", "message"})

    def test_what_was_told_is_confirmed_for_the_dossier(self) -> None:
        said = json.loads(lookup_answer(MERCHANT, owed_for(ORDER), known=True, now=NOW).body)
        finding = hear(confirmation(MaThamChieu=said["message"]["MaTraCuuTT"])).finding
        assert finding is not None
        assert ORDER.dossier_code in finding.references
