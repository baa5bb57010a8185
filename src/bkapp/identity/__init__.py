"""Who is asking: sign-in with a national eID (OIDC), sessions of browsers and native apps, offices that people hold.

A *person* is somebody who has signed in; a *sign-in* is one device of theirs.  The browser holds a cookie and no
token; a native app holds a short access token and a refresh token that changes with each use.

Other features may import :mod:`bkapp.identity.operations`, :mod:`bkapp.identity.queries` and
:mod:`bkapp.identity.rules`.
"""
