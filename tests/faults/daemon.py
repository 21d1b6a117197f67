"""The daemon under test: its directory and configuration, its lives as systemd would give them to it, and what it says of itself."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from server import SECRET

CONFIG_EXIT = 78
READY_S, SETTLE_S, LATE_S, COMMAND_S = 30, 30, 3, 120
LOOK_S = 0.02
RESTART_S, RESTART_MAX_S = 0.1, 1  # Of the unit 1 s and 60 s, which nothing here needs.
IN_A_ROW_MAX = 8  # Ends without an answer in between, after which it is taken for one that never starts.


class NotStarted(Exception):
    """It said that it is not to be started again, or never got ready."""


class Unsettled(Exception):
    """It runs, and what it should have done did not happen."""


class Config:
    """bridges.toml for some books; rows change its fields and write it again."""

    def __init__(self, server, books):
        self.server, self.books = server, books
        self.cache = None
        self.timing = 'every = "100ms"'
        self.in_flight = 8
        self.schedule = ["50ms"] * 20
        self.extra = ""  # More bridges and endpoints.
        self.was = {}  # Old names by new ones.
        self.names = {}  # Names of bridges where they are not those of the books.
        self.left_out = set()
        self.endpoint, self.endpoint_was = "app", None

    def text(self, place):
        text = f'[daemon]\nlisten = "off"\nstate-dir = "{place.state}"\nsocket = "{place.socket}"\nshutdown-grace = "5s"\n'
        text += '[network]\nallow = ["127.0.0.0/8"]\n'
        if self.cache:
            text += f'[store.sled]\ncache = "{self.cache}"\n'
        for book in self.books.books.values():
            if book.name not in self.left_out:
                text += self.bridge(book)
        steps = ", ".join(f'"{step}"' for step in self.schedule)
        text += f'[endpoint.{self.endpoint}]\nurl = "{self.server.origin}/hook/app"\n'
        if self.endpoint_was:
            text += f'was = "{self.endpoint_was}"\n'
        text += f'retry.schedule = [{steps}]\nin-flight = {self.in_flight}\n'
        return text + f'sign.standard.secrets = [{{ env = "FAULTS_SECRET" }}]\n' + self.extra

    def bridge(self, book):
        name = self.names.get(book.name, book.name)
        text = f'[bridge.{name}]\n{self.timing}\nitems = ".[]"\nkey = ".id"\nto = ["{self.endpoint}"]\n'
        text += 'alert.after = 1000000\nalert.stale-after = "1000d"\n'
        if name in self.was:
            text += f'was = "{self.was[name]}"\n'
        if book.emit:
            text += 'first-poll = "emit"\n'
        # A store of another run knows another server.
        text += "guard.definition = 1.0\n"
        if book.window:
            text += "window = true\n"
        else:
            text += "guard.deletes = 0.95\ndeletes.after = 1\n"
        if book.paged:
            text += "source.http.pages.link = {}\n"
        return text + f'source.http.url = "{self.server.origin}/api/{book.name}"\n'


class Place:
    """A directory with a state directory, a file and a log in it; real paths, as the shim wants them."""

    def __init__(self, work, name):
        self.root = Path(work).resolve() / name
        self.root.mkdir(parents=True)
        self.state, self.socket, self.file, self.log = (self.root / part for part in ("state", "sock", "bridges.toml", "log"))
        self.points = self.root / "points"
        self.points.mkdir()

    def write(self, config):
        self.file.write_text(config.text(self))

    def tail(self, lines=5):
        """The end of the log, without times, each line once."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        kept = dict.fromkeys(re.sub(r"^\d{4}-\S+Z +", "", line)[:500] for line in reversed(text.splitlines()[-500:]))
        return "\n".join(f"    | {line}" for line in reversed(list(kept)[:lines]))

    def put(self, template):
        """Makes the state directory a copy of another one."""
        shutil.rmtree(self.state, ignore_errors=True)
        subprocess.run(["cp", "-a", "--sparse=always", template, self.state], check=True, timeout=COMMAND_S)

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)


class Daemon:
    """`shims`: a Shim and a Clock, or one of them, whose libraries it is started with."""

    def __init__(self, binary, place, *shims):
        self.binary, self.place, self.shims = str(binary), place, shims
        self.wrap = []  # What the command is begun with.
        self.process = None
        self.exits = []  # How it ended by itself.
        self.in_a_row, self.in_a_row_max = 0, IN_A_ROW_MAX

    # ---------------------------------------------------------------- lives

    def environment(self, *shims):
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {"BELLPULL_FAILPOINTS": str(self.place.points), "FAULTS_SECRET": SECRET}
        libraries = [str(shim.library) for shim in shims if shim.library]
        if libraries:
            environment["LD_PRELOAD"] = ":".join(libraries)
        for shim in shims:
            environment |= shim.environment(self.place.state)
        return environment

    def start(self):
        with open(self.place.log, "ab") as log:
            command = [*self.wrap, self.binary, "--config", str(self.place.file), "run"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(*self.shims))

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def tend(self):
        """What systemd does: starts it again when it ended by itself, but for exit 78."""
        if self.process is None or self.process.poll() is None:
            return
        self.exits.append(self.process.returncode)
        if self.process.returncode == CONFIG_EXIT:
            raise NotStarted(f"exit 78:\n{self.place.tail()}")
        self.in_a_row += 1
        if self.in_a_row > self.in_a_row_max:
            raise NotStarted(f"it ended {self.in_a_row} times in a row, with {self.process.returncode}:\n{self.place.tail()}")
        time.sleep(min(RESTART_S * 2 ** (self.in_a_row - 1), RESTART_MAX_S))
        self.start()

    def kill(self):
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self, limit_s=15):
        """SIGTERM; what it ended with, None where it had to be killed."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        finally:
            self.process = None

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def memory(self, what):
        """`VmHWM` or `VmRSS` in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith(what + ":"))) / 1024

    # ---------------------------------------------------------------- what it says

    def ask(self, path, limit_s):
        """The status and the body of an answer of the socket; None and why where there is none."""
        connection = http.client.HTTPConnection("localhost", timeout=limit_s)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(limit_s)
        try:
            connection.sock.connect(str(self.place.socket))
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return None, str(error).encode()
        finally:
            connection.close()

    def get(self, path):
        """A JSON answer; None where there is none."""
        status, body = self.ask(path, 5)
        return json.loads(body) if status == 200 else None

    def export(self):
        """What the command `export` asks for, without a debug build of it in between."""
        return self.ask("/api/export", COMMAND_S)

    def status(self):
        status = self.get("/api/status")
        self.in_a_row = self.in_a_row if status is None else 0
        return status

    def command(self, *arguments, shims=(), limit_s=COMMAND_S):
        """A command of the program: what it ended with, and what it printed."""
        command = [self.binary, "--config", str(self.place.file), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s, stdin=subprocess.DEVNULL, env=self.environment(*shims))
        except subprocess.TimeoutExpired:
            return 124, f"{arguments[0]}: not within {limit_s} s"
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    # ---------------------------------------------------------------- waiting

    def until(self, condition, limit_s, what):
        """Waits for `condition`, while the daemon is started again as often as it ends; `what` says or tells what is waited for."""
        end = time.monotonic() + limit_s
        while True:
            self.tend()
            result = condition()
            if result:
                return result
            if time.monotonic() > end:
                text = f"{what() if callable(what) else what}: not within {limit_s} s\n{self.place.tail()}"
                raise (Unsettled if self.status() else NotStarted)(text)
            time.sleep(LOOK_S)

    def ready(self, limit_s=READY_S):
        return self.until(self.status, limit_s, "the daemon answers")

    def settle(self, books, limit_s=SETTLE_S, names=None):
        """Waits until every bridge was polled twice since now, is well, and nothing waits for delivery."""
        began, names, reason = time.monotonic_ns(), names or {}, ["nothing is known"]

        def quiet():
            # The polls first: what a status says that is older than they are is not what they led to.
            too_few = [book.name for book in books.books.values() if polls_since(book, began) < 2]
            status = self.status()
            reason[0] = unsettled(status, books, names, too_few)
            return status if reason[0] is None else None

        status = self.until(quiet, limit_s, lambda: reason[0])
        # What `status` says may be a moment older than what it does: what is on its way comes soon, what is lost does not.
        end = time.monotonic() + LATE_S
        while time.monotonic() < end and not all_came(status, books, names):
            time.sleep(LOOK_S)


def polls_since(book, began):
    """How often what the book is now was served since then."""
    return sum(1 for at, version in book.served[-50:] if at > began and version == book.version)


def unsettled(status, books, names, too_few):
    """Why not all is quiet; None where it is. `too_few`: books that were not polled often enough since their last change."""
    if status is None:
        return "the daemon does not answer"
    for book in books.books.values():
        bridge = status["bridges"].get(names.get(book.name, book.name), {})
        if book.name in too_few:
            return f"{book.name}: polled too seldom since its last change; it is {bridge.get('state')}, {bridge.get('last_error')}"
        if bridge.get("state") != "ok":
            return f"{book.name} is {bridge.get('state')}: {bridge.get('last_error')}"
    if not status["endpoints"]:
        # Of none nothing waits, and it says nothing of those that are about to start.
        return "no endpoint runs"
    for name, endpoint in status["endpoints"].items():
        if endpoint.get("waiting") or endpoint.get("in_flight") or endpoint.get("dead"):
            return f"{name}: {endpoint}"
    return None


def all_came(status, books, names):
    """Whether every number up to the last one was taken by the receiver."""
    came = books.numbers()
    return all(came[book.name] >= status["bridges"][names.get(book.name, book.name)]["sequence"] for book in books.books.values())
