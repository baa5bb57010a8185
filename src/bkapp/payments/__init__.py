"""Taking money for public services, and giving it back.

A *bill* is what somebody owes; an *attempt* is one try at paying it through one *merchant* (our account with a payment
provider); a *receipt* is money that came; a *refund* gives some of it back.  What a provider says about an attempt is
evidence, and stronger evidence outweighs weaker (:mod:`bkapp.payments.rules`).  Money that belongs to no bill stands in
suspense, with a case and a clock, until it is refunded or applied.

Other features may import :mod:`bkapp.payments.operations` (issuing a bill) and :mod:`bkapp.payments.rules`.
"""
