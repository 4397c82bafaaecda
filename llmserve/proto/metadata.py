"""Names of what calls have in their metadata."""

from __future__ import annotations

from typing import Final

REQUEST_ID: Final = "x-request-id"
IGNORED_FIELDS: Final = "x-ignored-fields"
ERROR_CODE: Final = "llmserve-error-code"
ERROR_PARAM: Final = "llmserve-error-param"
RETRY_AFTER: Final = "retry-after"
DRAINING: Final = "llmserve-draining"
"""Of a health check: the server will not serve again, and its operator wants that."""
