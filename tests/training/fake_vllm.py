"""A stand-in for the command `vllm`: an OpenAI server of LoRA adapters that says what was written down for it.

`install` puts it on a PATH. What it does wrong is asked of it in FAKE_VLLM: `exit` (ends at once), `mute` (is never
healthy), `wrong` (says something else than the trained model), `reads` (reads other prompt tokens), `old` (gives no
token ids with a reply). Each start and each adapter loaded later is a line of the file FAKE_VLLM_LOG.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

LOG = "FAKE_VLLM_LOG"
MODE = "FAKE_VLLM"


def install(folder: Path) -> Path:
    """Write the command `vllm` into a folder, for PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "vllm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    command.chmod(0o755)
    return folder


def starts(log: Path) -> list[dict[str, Any]]:
    """What was noted in the log."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def _note(**facts: Any) -> None:
    with open(os.environ[LOG], "a") as log:
        log.write(json.dumps(facts) + "\n")


class _Handler(BaseHTTPRequestHandler):
    mode = os.environ.get(MODE, "")
    adapters: ClassVar[dict[str, Path]] = {}

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        healthy = self.path == "/health" and self.mode != "mute"
        self._send({}, 200 if healthy else 503)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/load_lora_adapter":
            if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") != "True":
                self._send({"message": "not allowed"}, 404)
                return
            _note(loaded=body)
            self.adapters[body["lora_name"]] = Path(body["lora_path"])
            self._send("Success")
            return
        adapter = self.adapters.get(body["model"])
        if adapter is None:
            self._send({"message": f"no model {body['model']}"}, 404)
            return
        recorded = json.loads((adapter.parent / "replies.json").read_text())
        messages = body.get("messages")
        record = next((each for each in recorded if each["messages"] == messages), {"prompt": [1], "reply": [5, 2]})
        prompt = [*record["prompt"], 9] if self.mode == "reads" else record["prompt"]
        reply = [7, *record["reply"]] if self.mode == "wrong" else record["reply"]
        if self.path == "/tokenize":
            self._send({"tokens": prompt if messages else [int(word) for word in body["prompt"].split()]})
            return
        text = " ".join(map(str, reply))
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": text},
        }
        answer: dict[str, Any] = {"object": "chat.completion", "choices": [choice]}
        answer["usage"] = {"prompt_tokens": len(prompt), "completion_tokens": len(reply), "total_tokens": 9}
        if self.mode != "old":
            choice["token_ids"], answer["prompt_token_ids"] = reply, prompt
        self._send(answer)


def main(arguments: list[str]) -> None:
    _note(arguments=arguments, process=os.getpid())
    if os.environ.get(MODE) == "exit":
        sys.exit("ValueError: no GPU was found")
    modules = arguments[arguments.index("--lora-modules") + 1 :]
    _Handler.adapters.update((name, Path(path)) for name, path in (each.split("=", 1) for each in modules))
    port = int(arguments[arguments.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), _Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
