"""What is written as VietQR is read back, by us and by others, and nothing else is taken for it."""

import string

import pytest
import segno
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from zxingcpp import BarcodeFormat, BarcodeFormats, read_barcode

from bkapp.payments import vietqr
from bkapp.payments.vietqr import NotVietQr, Transfer, build, credit_transfer, fields, parse
from tests.peers.payments import ask

# The first three are of NAPAS IBFT v1.5.2 (the first with its length put right), the others of public tests of readers.
VECTORS = {
    "00020101021138570010A00000072701270006970403011300110123456780208QRIBFTTA53037045802VN63049E6F": Transfer(
        bank_bin="970403", account="0011012345678"
    ),
    "00020101021138600010A00000072701300006970403011697040311012345670208QRIBFTTC53037045802VN63044F52": Transfer(
        bank_bin="970403", account="9704031101234567", card=True
    ),
    "00020101021238570010A00000072701270006970403011300110123456780208QRIBFTTA530370454061800005802VN"
    "62340107NPS68690819thanh toan don hang63042E2E": Transfer(
        bank_bin="970403",
        account="0011012345678",
        amount=180_000,
        bill_number="NPS6869",
        purpose="thanh toan don hang",
    ),
    "00020101021238530010A0000007270123000697041601092576788590208QRIBFTTA5303704540410005802VN"
    "62150811Chuyen tien6304BBB8": Transfer(
        bank_bin="970416", account="257678859", amount=1_000, purpose="Chuyen tien"
    ),
    "00020101021238530010A0000007270123000697041601092576788590208QRIBFTTA530370454069999995802VN"
    "62140810Cam on nhe6304E786": Transfer(
        bank_bin="970416", account="257678859", amount=999_999, purpose="Cam on nhe"
    ),
    "00020101021138580010A000000727012800069704070114190304136010180208QRIBFTTA53037045802VN63040283": Transfer(
        bank_bin="970407", account="19030413601018"
    ),
    "00020101021138540010A00000072701240006970422011003523509170208QRIBFTTA53037045802VN630479db": Transfer(
        bank_bin="970422", account="0352350917"
    ),
    "00020101021138620010A00000072701320006970454011899ZP24009M072482670208QRIBFTTA53037045802VN6304073C": Transfer(
        bank_bin="970454", account="99ZP24009M07248267"
    ),
}
OTHER_CODES = [
    (
        "00020101021126280010A000000775011001087990425204597753037045802VN5909MYPHAMHER6005HANOI"
        "62260311MY PHAM HER0707MPHER0163041C50"
    ),
    (
        "00020101021126280010A000000775011001A80187905204549953037045802VN5907SUNFLY16005HaNoi"
        "62290313SUNFLY ONLINE0708SUNFLY016304AE6F"
    ),
    (
        "000201010212262200069084050108VNPAY0015204123453037045405500005802VN5904VBAN6005HANOI"
        "62820314Adidas Vietnam051901220630112516879110716Vincom Dong Khoi0817Thanh toan Qrcode63048247"
    ),
    "00020101021002020103069084010411VNPayWallet071003933571580809Lê Anh Tú09051000010037041107content63042678",
    (
        "00020101021138620010A00000072701320006970454011899MM24011M348750800208QRIBFTTA53037045802VN"
        "62190515MOMOW2W3487508080030466304EBC8"
    ),
    (
        "00020101021126610013vn.airpay.www014000000201010100064185noC4efDjGKq0or5GbeBz5204581253037045910RESTAURANT"
        "6009HOCHIMINH5802VN6304DA5C"
    ),
    (
        "000201010211262400020001140100101114-0195204490053037045802VN5931EVN CONG TY DIEN LUC THANH XUAN6006Ha Noi"
        "62450302000613PD000000000000702000812TT tien dien6304DC30"
    ),
]
WRONG_CHECKSUMS = [
    (
        "00020101021238530010A0000007270123000697041601092576788590208QRIBFTTA5303704540410005802VN"
        "62150811Chuyen tien6304BBB5"
    ),
    (
        "00020101021126280010A000000775011001087990425204597753037045802VN5909MYPHAMHER6005HANOI"
        "62260311MY PHAM HER0707MPHER0163041C55"
    ),
]
WRONG_INNER_LENGTH = "00020101021138570010A00000072701270006970403011200110123456780208QRIBFTTA53037045802VN6304F4E5"
VIETNAMESE = "ăâđêôơưàảãáạằẳẵắặầẩẫấậèẻẽéẹềểễếệìỉĩíịòỏõóọồổỗốộờởỡớợùủũúụừửữứựỳỷỹýỵĂÂĐÊÔƠƯ"
SIGNS = string.digits + string.ascii_letters + string.punctuation + " \n\x00" + VIETNAMESE + "٠０ "


def crc(text: str) -> str:
    """CRC-16/CCITT-FALSE bit by bit, as it is defined."""
    register = 0xFFFF
    for byte in text.encode():
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1) ^ (0x1021 if register & 0x8000 else 0)
            register &= 0xFFFF
    return f"{register:04X}"


def sealed(body: str) -> str:
    """A code with a right checksum, whatever the rest is."""
    return f"{body}6304{crc(body + '6304')}"


def row(number: str, value: str) -> str:
    return f"{number}{len(value):02}{value}"


def code(**changes: str | None) -> str:
    """A dynamic code, with fields changed (``_54="0"``), left out (``None``) or added at their place."""
    inner = row("00", "970403") + row("01", "0011012345678")
    found: dict[str, str | None] = {
        "00": "01",
        "01": "12",
        "38": row("00", "A000000727") + row("01", inner) + row("02", "QRIBFTTA"),
        "53": "704",
        "54": "20000",
        "58": "VN",
        "62": row("08", "TT7K3M9Q2M4X"),
    }
    found |= {name.removeprefix("_"): value for name, value in changes.items()}
    return sealed("".join(row(number, value) for number, value in sorted(found.items()) if value is not None))


def napas(
    bank_bin: str = "970403", account: str = "0011012345678", guid: str = "A000000727", to: str = "QRIBFTTA"
) -> str:
    return row("00", guid) + row("01", row("00", bank_bin) + row("01", account)) + row("02", to)


def test_the_checksum_is_crc_16_ccitt_false() -> None:
    assert vietqr._crc("123456789") == int(crc("123456789"), 16) == 0x29B1


@pytest.mark.parametrize(("text", "transfer"), VECTORS.items())
def test_public_codes_are_read_and_written_the_same(text: str, transfer: Transfer) -> None:
    assert parse(text) == transfer
    assert build(transfer) == text[:-4] + text[-4:].upper()


@pytest.mark.parametrize("text", OTHER_CODES)
def test_other_codes_of_emvco_are_framed_rightly_and_are_no_transfers(text: str) -> None:
    assert "".join(row(number, value) for number, value in fields(text).items()) == text[:-8]
    with pytest.raises(NotVietQr, match="does not have"):
        parse(text)


@pytest.mark.parametrize("text", WRONG_CHECKSUMS)
def test_codes_with_a_wrong_checksum_are_refused(text: str) -> None:
    with pytest.raises(NotVietQr, match="checksum"):
        fields(text)


def test_a_right_checksum_does_not_excuse_a_wrong_inner_length() -> None:
    assert fields(WRONG_INNER_LENGTH)["53"] == "704"
    with pytest.raises(NotVietQr, match="length"):
        parse(WRONG_INNER_LENGTH)


def test_lengths_count_characters_and_the_checksum_is_over_bytes() -> None:
    transfer = Transfer(bank_bin="970403", account="0011012345678", amount=20_000, purpose="Lê Anh Tú")

    text = build(transfer)

    assert "62130809Lê Anh Tú6304" in text
    assert len("Lê Anh Tú".encode()) == 11
    assert text == sealed(text[:-8])
    assert parse(text) == transfer


def test_credit_transfer_writes_one_payment_of_an_amount() -> None:
    text = credit_transfer("970403", "0011012345678", 20_000, "TT7K3M9Q2M4X")

    assert text == code()
    assert parse(text) == Transfer(bank_bin="970403", account="0011012345678", amount=20_000, purpose="TT7K3M9Q2M4X")


REFUSED = {
    "static with an amount": (code(_01="11"), "dynamic"),
    "dynamic without an amount": (code(_54=None), "dynamic"),
    "neither static nor dynamic": (code(_01="10"), "dynamic"),
    "decimals": (code(_54="20000.00"), "amount"),
    "a leading zero": (code(_54="020000"), "amount"),
    "nothing to pay": (code(_54="0"), "amount"),
    "less than nothing": (code(_54="-20000"), "amount"),
    "digits of another script": (code(_54="２００００"), "amount"),
    "14 digits": (code(_54="1" * 14), "amount"),
    "dollars": (code(_53="840"), "đồng"),
    "another country": (code(_58="US"), "đồng"),
    "another version": (code(_00="02"), "version"),
    "no version": (code(_00=None), "version"),
    "no account": (code(_38=None), "missing"),
    "no country": (code(_58=None), "missing"),
    "a tip": (code(_55="01"), "does not have"),
    "an account of another scheme": (code(_26=napas()), "does not have"),
    "another scheme": (code(_38=napas(guid="A000000775")), "NAPAS"),
    "a payment, not a transfer": (code(_38=napas(to="QRPUSH")), "NAPAS"),
    "lower-case scheme": (code(_38=napas(guid="a000000727")), "NAPAS"),
    "a bank of five digits": (code(_38=napas(bank_bin="97040")), "six digits"),
    "a bank of letters": (code(_38=napas(bank_bin="97O403")), "six digits"),
    "a bank in other digits": (code(_38=napas(bank_bin="９７０４０３")), "six digits"),
    "20 digits of an account": (code(_38=napas(account="1" * 20)), "account"),
    "an account with a space": (code(_38=napas(account="0011 2345")), "account"),
    "a card with letters": (code(_38=napas(account="97040311O1234567", to="QRIBFTTC")), "account"),
    "no service": (code(_38=row("00", "A000000727") + row("01", row("00", "970403") + row("01", "1"))), "missing"),
    "the service first": (
        code(_38=row("02", "QRIBFTTA") + row("00", "A000000727") + row("01", row("00", "970403") + row("01", "1"))),
        "order",
    ),
    "the account before the bank": (
        code(_38=row("00", "A000000727") + row("01", row("01", "1") + row("00", "970403")) + row("02", "QRIBFTTA")),
        "order",
    ),
    "two services": (code(_38=napas() + row("02", "QRIBFTTA")), "twice"),
    "something after the service": (code(_38=napas() + row("03", "x")), "does not have"),
    "an empty purpose": (code(_62="0800"), "empty"),
    "26 characters of purpose": (code(_62=row("08", "x" * 26)), "purpose"),
    "a purpose unknown": (code(_62=row("09", "A")), "does not have"),
    "a name of 26": (code(_59="x" * 26), "name"),
    "a category of letters": (code(_52="ABCD"), "category"),
    "an amount in front": (sealed(row("54", "20000") + "000201010212"), "version"),
    "an amount after the country": (
        sealed(row("00", "01") + row("01", "12") + row("38", napas()) + "5303704" + "5802VN" + "540520000"),
        "order",
    ),
    "two amounts": (
        sealed(row("00", "01") + row("01", "12") + row("38", napas()) + "5303704" + "540520000" * 2 + "5802VN"),
        "twice",
    ),
    "a checksum before the end": (sealed(row("00", "01") + "6304" + crc("0002016304")), "before the end"),
    "a length too long": (sealed("000201010212389" + "9" + napas()), "shorter"),
    "an inner length one too long": (code(_38=napas().replace("0208QRIBFTTA", "0209QRIBFTTA")), "shorter"),
    "a length of letters": (sealed("0002010102123XYZ"), "number and length"),
    "a length of other digits": (sealed("0002010１0２12"), "number and length"),
    "a lone head": (sealed("000201010"), "number and length"),
    "only a checksum": (sealed(""), "version"),
    "nothing": ("", "no checksum"),
    "a checksum without its field": (code()[:-8] + crc(code()[:-8]), "no checksum"),
    "a checksum of letters": (code()[:-4] + "WXYZ", "no checksum"),
    "a checksum with a sign": (code()[:-4] + "+123", "no checksum"),
    "something after the checksum": (code() + " ", "no checksum"),
    "a line's end after the checksum": (code() + "\n", "printed"),
    "a line's end in the purpose": (code(_62=row("08", "a\nb")), "printed"),
    "a sign beyond U+FFFF": (code(_62=row("08", "💰")), "printed"),
    "half a character": ("\ud800" + code(), "printed"),
    "longer than any code": (sealed("00" + "99" + "x" * 99 + row("26", "x" * 99) * 5), "too long"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_transfer_is_refused_for_its_reason(name: str) -> None:
    text, reason = REFUSED[name]

    with pytest.raises(NotVietQr, match=reason):
        parse(text)


@pytest.mark.parametrize(
    "transfer",
    [
        Transfer(bank_bin="", account="1"),
        Transfer(bank_bin="970403", account=""),
        Transfer(bank_bin="970403", account="1" * 20),
        Transfer(bank_bin="970403", account="ABC", card=True),
        Transfer(bank_bin="970403", account="1", amount=0),
        Transfer(bank_bin="970403", account="1", amount=-1),
        Transfer(bank_bin="970403", account="1", amount=10**13),
        Transfer(bank_bin="970403", account="1", category="12"),
        Transfer(bank_bin="970403", account="1", name="x" * 26),
        Transfer(bank_bin="970403", account="1", city="x" * 16),
        Transfer(bank_bin="970403", account="1", purpose="\ud800"),
        Transfer(bank_bin="970403", account="1", purpose="💰"),
        Transfer(
            bank_bin="970403", account="1", bill_number="x" * 25, store="x" * 25, label="x" * 25, purpose="x" * 25
        ),
    ],
)
def test_what_no_code_can_hold_is_not_written(transfer: Transfer) -> None:
    with pytest.raises(NotVietQr):
        build(transfer)


def texts(most: int) -> st.SearchStrategy[str]:
    printed = st.characters(exclude_categories=("C", "Z"), max_codepoint=0xFFFF) | st.just(" ")
    return st.text(printed.filter(str.isprintable), max_size=most)


def digits(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(string.digits, min_size=least, max_size=most)


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    card = draw(st.booleans())
    account = digits(1, 19) if card else st.text(string.digits + string.ascii_letters, min_size=1, max_size=19)
    return Transfer(
        bank_bin=draw(digits(6, 6)),
        account=draw(account),
        card=card,
        amount=draw(st.none() | st.integers(1, 10**13 - 1)),
        category=draw(st.just("") | digits(4, 4)),
        name=draw(texts(25)),
        city=draw(texts(15)),
        # Five of 15 are as many characters as a field holds; one of 25 has its own example above.
        bill_number=draw(texts(15)),
        store=draw(texts(15)),
        label=draw(texts(15)),
        terminal=draw(texts(15)),
        purpose=draw(texts(15)),
    )


@given(transfers())
def test_what_is_written_is_read_back(transfer: Transfer) -> None:
    assert parse(build(transfer)) == transfer


@given(transfers(), st.data())
def test_one_wrong_character_in_any_code_is_caught(transfer: Transfer, data: st.DataObject) -> None:
    text = build(transfer)
    at = data.draw(st.integers(0, len(text) - 1))
    sign = data.draw(st.sampled_from(string.printable))
    # A change of one byte is what a CRC of 16 bits surely finds; over other alphabets see the test of the vectors.
    assume(text[at].isascii() and sign.lower() != text[at].lower())

    with pytest.raises(NotVietQr):
        parse(text[:at] + sign + text[at + 1 :])


@pytest.mark.parametrize("text", VECTORS)
def test_every_wrong_character_in_every_public_code_is_caught(text: str) -> None:
    for at in range(len(text)):
        for sign in SIGNS.replace(text[at], ""):
            changed = text[:at] + sign + text[at + 1 :]
            if at >= len(text) - 4 and sign.upper() == text[at].upper():
                assert parse(changed) == parse(text)  # the checksum may be in either case
            else:
                with pytest.raises(NotVietQr):
                    parse(changed)


@pytest.mark.parametrize("text", VECTORS)
def test_every_lost_character_and_every_swap_of_neighbours_is_caught(text: str) -> None:
    for at in range(len(text)):
        with pytest.raises(NotVietQr):
            parse(text[:at] + text[at + 1 :])
        swapped = text[:at] + text[at + 1 : at + 2] + text[at] + text[at + 2 :]
        if swapped != text:
            with pytest.raises(NotVietQr):
                parse(swapped)


NUMBERS = st.sampled_from(["00", "01", "02", "08", "38", "53", "54", "58", "62", "63", "99"])
VALUES = st.sampled_from(
    ["01", "11", "12", "704", "VN", "20000", "A000000727", "QRIBFTTA", napas(), row("08", "x"), "é"]
)


@st.composite
def nearly_codes(draw: st.DrawFn) -> str:
    """The rows of a code as it is, or with some of them changed, lost, doubled and in any order."""
    rows = list(fields(build(draw(transfers()))).items())
    if draw(st.booleans()):
        rows = draw(st.lists(st.one_of(st.sampled_from(rows), st.tuples(NUMBERS, VALUES)), min_size=1, max_size=12))
    return "".join(row(*each) for each in rows)


@given(st.one_of(nearly_codes(), st.text(), st.text(string.digits)))
def test_only_what_we_would_write_is_read_and_all_else_is_refused(body: str) -> None:
    for text in (body, sealed(body)):
        try:
            found = parse(text)
        except NotVietQr:
            continue
        assert build(found) == text


@pytest.mark.parametrize("purpose", ["TT7K3M9Q2M4X", "Lệ phí hồ sơ"])
@pytest.mark.parametrize("error", ["L", "M", "Q", "H"])
def test_an_outside_reader_reads_the_printed_code(purpose: str, error: str) -> None:
    text = credit_transfer("970403", "0011012345678", 20_000, purpose)
    lines = segno.make_qr(text, error=error, encoding="utf-8").matrix_iter(scale=4, border=4)
    pixels = [bytes(0 if dark else 255 for dark in line) for line in lines]
    picture = memoryview(b"".join(pixels)).cast("B", shape=[len(pixels), len(pixels[0])])

    found = read_barcode(picture, formats=BarcodeFormats(BarcodeFormat.QRCode))

    assert found is not None
    assert found.text == text
    assert parse(found.text).purpose == purpose


@settings(max_examples=2, deadline=None)
@given(st.lists(transfers(), min_size=30, max_size=60))
def test_an_outside_parser_reads_in_our_codes_what_we_wrote(written: list[Transfer]) -> None:
    found = ask(*({"do": "parseQr", "text": build(transfer)} for transfer in written))

    for transfer, said in zip(written, found, strict=True):
        assert said["isValid"]
        assert said["initMethod"] == ("11" if transfer.amount is None else "12")
        assert said["provider"]["service"] == ("QRIBFTTC" if transfer.card else "QRIBFTTA")
        more = said["additionalData"]
        assert transfer == Transfer(
            bank_bin=said["consumer"]["bankBin"],
            account=said["consumer"]["bankNumber"],
            card=transfer.card,
            amount=int(said["amount"]) if "amount" in said else None,
            category=said.get("category", ""),
            name=said["merchant"].get("name", ""),
            city=said.get("city", ""),
            bill_number=more.get("billNumber", ""),
            store=more.get("store", ""),
            label=more.get("reference", ""),
            terminal=more.get("terminal", ""),
            purpose=more.get("purpose", ""),
        )


@settings(max_examples=2, deadline=None)
@given(st.lists(transfers(), min_size=30, max_size=60))
def test_we_read_the_codes_that_an_outside_builder_writes(written: list[Transfer]) -> None:
    questions = [
        {
            "do": "buildQr",
            "bankBin": transfer.bank_bin,
            "bankNumber": transfer.account,
            "service": "QRIBFTTC" if transfer.card else "QRIBFTTA",
            "purpose": transfer.purpose,
        }
        | ({} if transfer.amount is None else {"amount": str(transfer.amount)})
        for transfer in written
    ]

    for transfer, text in zip(written, ask(*questions), strict=True):
        assert parse(text) == Transfer(
            bank_bin=transfer.bank_bin,
            account=transfer.account,
            card=transfer.card,
            amount=transfer.amount,
            purpose=transfer.purpose,
        )
