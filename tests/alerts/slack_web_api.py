"""A stand-in for Slack's Web API, as strict as the real one about what alerts use of it.

Checked: the token; that bodies are form or JSON as documented; the channel; text and blocks, with the limits of the
webhook's stand-in; the thread; the three steps of an upload, with the announced length; the metadata of a message.
"""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

CHANNELS = {"#alerts": "C0ALERTS", "#money": "C0MONEY", "#on-call": "C0ONCALL"}


class SlackApi:
    """`plan` holds (method, what): a word is an error, 429 a rate limit of ten minutes."""

    def __init__(self, verdict: Callable[[str, bytes], tuple[int, str]]) -> None:
        self.plan: list[tuple[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []
        self.token = "xoxb-secret-hunter2"
        self._uploads: dict[str, dict[str, Any]] = {}
        self._verdict = verdict
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.answer({"body": body})

            def answer(self, more: dict[str, Any]) -> None:
                body = more.get("body", b"")
                parts = urlsplit(self.path)
                if parts.path.startswith("/upload/"):
                    upload = api._uploads[parts.path.removeprefix("/upload/")]
                    upload["bytes"] = body
                    self.reply(200 if len(body) == upload["length"] else 500, b"OK")
                    return
                method = parts.path.removeprefix("/api/")
                planned = api.plan[0] if api.plan and api.plan[0][0] == method else None
                if planned is not None:
                    api.plan.pop(0)
                    if planned[1] == 429:
                        self.reply(429, b'{"ok":false,"error":"ratelimited"}', {"Retry-After": "600"})
                        return
                    self.reply(200, json.dumps({"ok": False, "error": planned[1]}).encode())
                    return
                if self.headers.get("Authorization") != f"Bearer {api.token}":
                    self.reply(200, b'{"ok":false,"error":"invalid_auth"}')
                    return
                kind = self.headers.get("Content-Type", "")
                if kind.startswith("application/json"):
                    arguments = json.loads(body)
                else:
                    text = body.decode() or parts.query
                    arguments = {key: values[0] for key, values in parse_qs(text).items()}
                    for key in ("blocks", "metadata", "files"):
                        if key in arguments:
                            arguments[key] = json.loads(arguments[key])
                result = getattr(api, method.replace(".", "_"))(arguments)
                self.reply(200, json.dumps(result).encode())

            def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.root = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.root}/api/"

    def chat_postMessage(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = CHANNELS.get(arguments.get("channel", ""), arguments.get("channel", ""))
        if channel not in CHANNELS.values():
            return {"ok": False, "error": "channel_not_found"}
        payload = json.dumps({"text": arguments.get("text"), "blocks": arguments.get("blocks")}).encode()
        status, word = self._verdict("application/json", payload)
        if status != 200:
            return {"ok": False, "error": word}
        metadata = arguments.get("metadata")
        if metadata is not None and set(metadata) != {"event_type", "event_payload"}:
            return {"ok": False, "error": "invalid_metadata_format"}
        thread = arguments.get("thread_ts")
        if thread is not None and thread not in {m["ts"] for m in self.messages}:
            return {"ok": False, "error": "thread_not_found"}
        message = {**arguments, "channel": channel, "ts": f"1770000000.{len(self.messages):06d}"}
        self.messages.append({k: v for k, v in message.items() if v is not None})
        return {"ok": True, "channel": channel, "ts": message["ts"], "message": {}}

    def conversations_history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        # As the real one: by id only, and without what stands in threads.
        if arguments["channel"] not in CHANNELS.values():
            return {"ok": False, "error": "channel_not_found"}
        found = [m for m in self.messages if arguments["channel"] == m["channel"] and "thread_ts" not in m]
        return {"ok": True, "messages": [{"ts": m["ts"], "metadata": m.get("metadata")} for m in found]}

    def files_getUploadURLExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not arguments.get("filename") or int(arguments.get("length", 0)) < 1:
            return {"ok": False, "error": "invalid_arguments"}
        ident = f"F{len(self._uploads)}"
        self._uploads[ident] = {"length": int(arguments["length"])}
        return {"ok": True, "file_id": ident, "upload_url": f"{self.root}/upload/{ident}"}

    def files_completeUploadExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments.get("channel_id") not in CHANNELS.values():
            return {"ok": False, "error": "channel_not_found"}
        for file in arguments["files"]:
            if "bytes" not in self._uploads.get(file["id"], {}):
                return {"ok": False, "error": "file_not_found"}
            self.files.append(
                {
                    "channel": arguments["channel_id"],
                    "thread_ts": arguments.get("thread_ts"),
                    "bytes": self._uploads[file["id"]]["bytes"],
                }
            )
        return {"ok": True, "files": [{"id": file["id"], "title": file.get("title")} for file in arguments["files"]]}


@pytest.fixture
def slack_api(verdict: Callable[[str, bytes], tuple[int, str]]) -> Iterator[SlackApi]:
    api = SlackApi(verdict)
    thread = threading.Thread(target=api.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield api
    api.server.shutdown()
    api.server.server_close()
    thread.join()
