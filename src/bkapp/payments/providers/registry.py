"""Every provider there is, by its name."""

import httpx

from bkapp.payments.providers import Provider, Refunds
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.keypay import Keypay
from bkapp.payments.providers.momo import Momo
from bkapp.payments.providers.paygov import Paygov
from bkapp.payments.providers.vietqr import Vietqr
from bkapp.payments.providers.viettel import Viettel
from bkapp.payments.providers.vnpay import Vnpay
from bkapp.payments.providers.zalopay import Zalopay


class Providers:
    """The providers, on one HTTP client."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._wire = Wire(transport)
        wire = self._wire
        known: tuple[Provider, ...] = (
            Paygov(wire),
            Keypay(wire),
            Vnpay(wire),
            Momo(wire),
            Zalopay(wire),
            Viettel(wire),
            Vietqr(wire),
        )
        self._known = {provider.name: provider for provider in known}

    def of(self, name: str) -> Provider:
        """The provider with a name that a merchant may have."""
        return self._known[name]

    def refunds(self, name: str) -> Refunds | None:
        """The same as what gives money back, if it does."""
        provider = self._known[name]
        return provider if isinstance(provider, Refunds) else None

    async def close(self) -> None:
        await self._wire.close()
