"""The process that parses documents: it limits itself, then reads one file after another until its parent is gone.

Started by `reader_process.py` with the descriptor of a connection and a memory limit in bytes. A request is two
messages, the settings as JSON and the file's bytes; a reply is one message, whose first byte is its kind.
"""

from __future__ import annotations

import json
import sys
from multiprocessing.connection import Connection
from typing import Final

READY: Final = b"ready"
TEXT, REASON, MEMORY = b"t", b"r", b"m"
_ANY_NUMBER_OF_SECONDS: Final = 10**8


def main() -> None:
    """Serve until the connection is closed."""
    from synth_dspy.core.process_limits import limit_resources
    from synth_dspy.domains.documents.readers import Unreadable, read_document

    channel = Connection(int(sys.argv[1]))
    # It writes no files.
    limit_resources(memory=int(sys.argv[2]), file=0, cpu=_ANY_NUMBER_OF_SECONDS)
    channel.send_bytes(READY)
    while True:
        try:
            request = json.loads(channel.recv_bytes())
            data = channel.recv_bytes()
        except EOFError:
            return
        _limit_processor_time(request["seconds"])
        try:
            text = read_document(request["suffix"], data).encode()
            answer = TEXT + text
            if len(text) > request["most"]:
                answer = REASON + f"holds too much text (more than {request['most'] / 2**20:g} MiB)".encode()
        except Unreadable as reason:
            answer = REASON + str(reason).encode("utf-8", "replace")
        except MemoryError:
            answer = MEMORY
        channel.send_bytes(answer)


def _limit_processor_time(seconds: float) -> None:
    """Have the kernel end this process after `seconds` more of processor time, even without its parent."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime + seconds) + 1, hard))
