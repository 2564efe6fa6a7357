"""Events by HTTP: a bare ASGI application that answers as existing SDKs need.

`supervisor` keeps worker processes on one listening socket; in each, `app` routes a
request, `bodies` unpacks it, admission decides about its items, and a segment holds
them before the answer goes out. Nothing here opens the warehouse or imports what builds
it.
"""
