"""A list of very many records, and what the rows about size share: it is no book, since what matters here is time and memory."""

import os
from pathlib import Path

from daemon import Unsettled

RECORD = b'{"id":%d,"rev":%d,"name":"record number %08d","url":"https://api.example.com/records/%08d","state":"open","labels":["a","b"]}'
POLL_S = 1800  # For an answer of a million records in a debug build.
FAILURES = 3  # Polls in a row that fail, after which it is not waited for any longer.


class Big:
    """`count` records of 137 bytes, as the answer `big` of a server."""

    def __init__(self, server, count):
        self.server, self.count = server, count
        self.rev = self.sequence = 0  # Of the last change, and of its last event.
        self.texts = [RECORD % (key, 0, key, key) for key in range(1, count + 1)]
        self.serve()

    def serve(self):
        self.server.documents["big"] = (b"[" + b",".join(self.texts) + b"]", "application/json", f'"big-{self.rev}"')

    def change(self, keys):
        self.rev += 1
        self.sequence += len(keys)
        for key in keys:
            self.texts[key - 1] = RECORD % (key, self.rev, key, key)
        self.serve()

    def change_all(self):
        self.change(range(1, self.count + 1))

    def toml(self, name="big", every="1s", more=""):
        """Its bridge, and an endpoint that is switched off: what it is sent waits."""
        return (
            f'[bridge.{name}]\nevery = "{every}"\nitems = ".[]"\nkey = ".id"\nto = ["sink"]\nalert.after = 1000000\n{more}'
            f'source.http.url = "{self.server.origin}/api/big"\nsource.http.size-max = "256MiB"\nsource.http.timeout = "5m"\n'
            f'source.http.deadline = "30m"\n[endpoint.sink]\nenabled = false\nqueue-max = 2000000\nurl = "{self.server.origin}/hook/sink"\n'
            'sign.standard.secrets = [{ env = "FAULTS_SECRET" }]\n'
        )

    def is_known(self, daemon, name="big"):
        """Whether all of them are the bridge's, and what they are now."""

        def known():
            bridge = (daemon.status() or {"bridges": {}})["bridges"].get(name, {})
            if bridge.get("failures", 0) >= FAILURES:
                raise Unsettled(f"{name} fails: {bridge['last_error']}")
            asked = bridge.get("state") == "ok" and bridge.get("records") == self.count
            return asked and bridge["sequence"] == self.sequence

        return known


class Cgroup:
    """One with so much memory and no swap, of version 1 or 2, where this machine lets us make one."""

    def __init__(self, mib):
        self.reason = None
        for top, limit, swap in (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
        ):
            self.path = Path(top) / f"bellpull-faults-{os.getpid()}"
            try:
                self.path.mkdir()
                (self.path / limit).write_text(str(mib << 20))
                (self.path / swap).write_text(str(mib << 20) if "memsw" in swap else "0")
                return
            except OSError as error:
                self.reason = str(error)
                self.remove()

    def wrap(self):
        """What a command is begun with so that it runs in there."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.path / "cgroup.procs")]

    def remove(self):
        try:
            self.path.rmdir()
        except OSError:
            pass
