"""The HTTP collector: a bare ASGI application compatible with existing SDKs.

`supervisor` keeps worker processes on one listening socket; in each, `app` routes a
request, `bodies` unpacks it, admission decides about its items, and a segment stores
them before the answer is sent. This package does not open the warehouse or import the
code that builds it.
"""
