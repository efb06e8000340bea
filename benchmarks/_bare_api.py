"""The least that can be between HTTP and Valkey, under the same server: one GET, its value as the answer.

Run with SEGUE_HOME set; prints its port.
"""

import socket
from typing import Any

from segue.listen import answer
from segue.settings import load_settings
from segue.valkey import connect_async

#: Values stand under this and the path's last part but one, as in /v1/people/IDENTIFIER/segments.
KEY = "benchmark:api:"


def main() -> None:
    """Serve until SIGTERM."""
    settings = load_settings()
    client: Any = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal client
        if scope["type"] != "http":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        client = client or connect_async(settings)
        value = await client.get(KEY + scope["path"].rsplit("/", 2)[1])
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(value))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": value})

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    answer(app, listener)


if __name__ == "__main__":
    main()
