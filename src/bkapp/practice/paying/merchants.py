"""bkapp's accounts with the practice providers.  The secrets are published here, and stand for nothing."""

from msgspec import Struct

PREFIX = "/thanh-toan"
THIS_MACHINE = ("127.0.0.0/8", "::1/128")


class PracticeMerchant(Struct, frozen=True, kw_only=True):
    """An account with a practice provider, as bkapp is to keep it: ``options`` and the purposes of ``secrets`` are
    those that the provider's module in ``bkapp.payments.providers`` asks for."""

    key: str
    provider: str
    code: str
    title: str
    options: dict[str, str]
    secrets: dict[str, str]
    allowed_ips: tuple[str, ...] = ()


def practice_merchants(base_url: str) -> list[PracticeMerchant]:
    """bkapp's accounts with the practice providers of the practice server at ``base_url`` (no slash at its end)."""
    here = f"{base_url}{PREFIX}"
    return [
        PracticeMerchant(
            key="paygov",
            provider="paygov",
            code="BACKAN",
            title="Paygov – Cổng thanh toán quốc gia",
            options={
                "init_url": f"{here}/paygov/init",
                "query_url": f"{here}/paygov/query",
                "bill_url": f"{here}/paygov/bill",
                "agency_code": "H03",
            },
            secrets={"checksum": "practice paygov checksum", "bearer": "practice-lgsp-token"},
        ),
        PracticeMerchant(
            key="vietqr",
            provider="vietqr",
            code="BACKAN",
            title="Chuyển khoản VietQR",
            options={"api": f"{here}/ngan-hang/vietqr"},
            secrets={
                "checksum": "practice bank checksum",
                "webhook": "whsec_cHJhY3RpY2UgYmFuaywgc2lnbnMgbm90aGluZyE=",
            },
        ),
        PracticeMerchant(
            key="vnpay",
            provider="vnpay",
            code="BACKAN01",
            title="VNPAY",
            options={
                "pay_url": f"{here}/vnpay/paymentv2/vpcpay.html",
                "api_url": f"{here}/vnpay/merchant_webapi/api/transaction",
            },
            secrets={"hash": "PRACTICEVNPAYHASHSECRET"},
        ),
        PracticeMerchant(
            key="momo",
            provider="momo",
            code="MOMOBACKAN",
            title="Ví MoMo",
            options={"url": f"{here}/momo"},
            secrets={"access": "practiceMomoAccess", "secret": "practiceMomoSecret"},
        ),
        PracticeMerchant(
            key="zalopay",
            provider="zalopay",
            code="2553",
            title="ZaloPay",
            options={"url": f"{here}/zalopay"},
            secrets={"key1": "practiceZalopayKey1", "key2": "practiceZalopayKey2"},
        ),
        PracticeMerchant(
            key="viettel",
            provider="viettel",
            code="VTBACKAN",
            title="Viettel Money",
            options={
                "access_code": "practiceViettelAccess",
                "pay_url": f"{here}/viettel/payment",
                "search_url": f"{here}/viettel/search",
            },
            secrets={"hash_key": "practiceViettelHash"},
            allowed_ips=THIS_MACHINE,
        ),
        PracticeMerchant(
            key="keypay",
            provider="keypay",
            code="BACKAN",
            title="KeyPay",
            options={
                "pay_url": f"{here}/keypay/pay",
                "detail_url": f"{here}/keypay/detail",
                "agency_code": "H03",
            },
            secrets={"hash_1": "practiceKeypayHash1", "hash_2": "practiceKeypayHash2"},
            allowed_ips=THIS_MACHINE,
        ),
    ]
