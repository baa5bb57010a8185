"""The address registry: every dwelling, its code for life, and the household that lives there.

A *dwelling* (chỗ ở) is a place where one household can live: a house, or one
flat behind a shared door.  Its *code* belongs to it for ever: a household that
moves takes another code, a re-survey moves the point and keeps the code, and a
merger of communes changes neither.  Codes are never reused and never revived.

Other features may import :mod:`bkapp.address.queries`,
:mod:`bkapp.address.operations` and :mod:`bkapp.address.codes`.
"""
