"""A webhook: events by POST, as chats and own servers take them."""

import json
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from raygen import __version__
from raygen.callbacks import Event, WebhookSpec
from raygen.errors import RaygenError
from raygen.integrations.environment import expanded
from raygen.integrations.notable import Notable

SECONDS = 10.0  # for an answer


class Webhook(Notable):
    """Posts an event as JSON; its line is in `text`."""

    def __init__(self, spec: WebhookSpec) -> None:
        super().__init__(spec.on)
        self.shown, self.url = spec.url, expanded(spec.url)

    def send(self, event: Event) -> None:
        body = json.dumps({"text": str(event), **event.as_json()}, default=str).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"raygen/{__version__}"}
        try:
            urlopen(Request(self.url, body, headers), timeout=SECONDS).close()
        except HTTPError as error:
            raise RaygenError(f"{self.shown} answered {error.code}") from None
        except (URLError, OSError, HTTPException, ValueError) as error:
            # Not what the error says: that may hold the address, which may be a secret.
            reason = getattr(error, "reason", error)
            kind = type(reason if isinstance(reason, Exception) else error).__name__
            raise RaygenError(f"{self.shown} cannot be reached ({kind})") from None
