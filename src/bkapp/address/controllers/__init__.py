"""HTTP for addresses: decode, guard, call one operation or query, encode."""

from bkapp.address.controllers.addresses import AddressController
from bkapp.address.controllers.certificates import CertificateController
from bkapp.address.controllers.events import EventController
from bkapp.address.controllers.files import FileController
from bkapp.address.controllers.geocoding import GeocodingController
from bkapp.address.controllers.hamlets import HamletController
from bkapp.address.controllers.tiles import TileController
from bkapp.address.controllers.verbs import VerbController

CONTROLLERS = [
    AddressController,
    VerbController,
    HamletController,
    EventController,
    CertificateController,
    GeocodingController,
    FileController,
    TileController,
]

__all__ = ["CONTROLLERS"]
