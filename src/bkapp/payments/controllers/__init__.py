"""HTTP for payments: decode, guard, call one operation, flow or query, encode."""

from litestar.types import ControllerRouterHandler

from bkapp.payments.controllers.attempts import AttemptController
from bkapp.payments.controllers.bills import BillController, MethodController
from bkapp.payments.controllers.cases import PaymentCaseController, SuspenseController
from bkapp.payments.controllers.endpoints import EndpointController, MessageController
from bkapp.payments.controllers.hooks import HookController
from bkapp.payments.controllers.inbox import InboxController, LedgerController
from bkapp.payments.controllers.reconciliation import ReconciliationController, StatementController
from bkapp.payments.controllers.refunds import RefundController

CONTROLLERS: list[ControllerRouterHandler] = [
    MethodController,
    BillController,
    AttemptController,
    HookController,
    RefundController,
    PaymentCaseController,
    SuspenseController,
    EndpointController,
    MessageController,
    InboxController,
    LedgerController,
    StatementController,
    ReconciliationController,
]
