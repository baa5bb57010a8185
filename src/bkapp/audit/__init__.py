"""The audit chain: who did what, in an order and wording that nobody can change unseen.

Other features add to it with :func:`bkapp.audit.operations.append`.  An entry names people by our ids alone, so that
erasing a person leaves the chain whole.
"""
