"""Every feature's tasks, so that a worker knows them all."""

import bkapp.address.tasks
import bkapp.audit.tasks
import bkapp.households.tasks
import bkapp.identity.tasks
import bkapp.payments.tasks
import bkapp.privacy.tasks  # noqa: F401
