"""The controllers of all pages of who has signed in."""

from bkapp.account.billing import BillingController
from bkapp.account.claiming import ClaimingController
from bkapp.account.data import DataController
from bkapp.account.devices import DeviceController
from bkapp.account.home import HomeController
from bkapp.account.household import HouseholdController, InvitationController
from bkapp.account.office import WorkController
from bkapp.account.paying import AttemptPages, BillPages, ReturnPages
from bkapp.account.rights import RightsController
from bkapp.account.treasury import TreasuryController

CONTROLLERS = (
    HomeController,
    HouseholdController,
    InvitationController,
    ClaimingController,
    DeviceController,
    DataController,
    BillPages,
    AttemptPages,
    ReturnPages,
    WorkController,
    BillingController,
    RightsController,
    TreasuryController,
)
