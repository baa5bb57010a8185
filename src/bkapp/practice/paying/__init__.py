"""Practice payment providers: Paygov, six others and a bank, with a payment page that does whatever one asks of it.

They speak the providers' side of each protocol over HTTP, below ``/thanh-toan``.  No money moves.  What a payer may
choose is :class:`bkapp.practice.paying.cashier.Choice`; what goes wrong by itself is set as a script
(:mod:`bkapp.practice.paying.faults`).
"""
