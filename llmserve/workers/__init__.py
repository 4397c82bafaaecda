"""The processes: a supervisor that keeps workers alive, and the workers.

`create_app` is the ASGI factory for any other server, Gunicorn for one.
"""

from llmserve.workers.app import create_app

__all__ = ["create_app"]
