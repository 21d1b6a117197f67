"""What drive.py's steps use: checks, waits, a list to poll, a receiver, the daemon, and the browser.

drive.py BELLPULL CHROMIUM CHROMEDRIVER AXE WORK SHOTS is the program; this module reads the same arguments. Every expectation is one named, counted
check. Nothing here sleeps for a fixed time and hopes: each wait polls a condition and gives up after its own limit.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import JavascriptException, NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

BELLPULL, CHROMIUM, CHROMEDRIVER = sys.argv[1:4]
AXE, WORK, SHOTS = map(Path, sys.argv[4:7])

WAIT_LIMIT_S = 20  # for something to be seen, on the page or at the receiver
START_LIMIT_S = 60  # for the daemon to come up; a debug build reads 5,000 bridges in some seconds
STOP_LIMIT_S = 25  # daemon.shutdown-grace is 20 s
CALL_LIMIT_S = 10
LOOK_EVERY_S = 0.05
TABS_MAX = 80

passed, failed = [], []


class GaveUp(Exception):
    """A step that the following ones need did not happen."""


def check(name, holds, seen=None):
    """Counts one expectation; `seen` is shown when it does not hold."""
    (passed if holds else failed).append(name)
    print(f"  {'ok    ' if holds else 'FAILED'}  {name}", flush=True)
    if not holds and seen is not None:
        print(f"          seen: {str(seen)[:1500]}", flush=True)
    return holds


def wait_for(what, condition, limit_s=WAIT_LIMIT_S):
    """What `condition` returns once that is true-ish; GaveUp after `limit_s`."""
    until = time.monotonic() + limit_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > until:
            raise GaveUp(f"{what}: not within {limit_s} s")
        time.sleep(LOOK_EVERY_S)


def check_soon(name, condition):
    """A check of what takes a moment."""
    try:
        return check(name, wait_for(name, condition))
    except GaveUp:
        return check(name, False, "it did not come")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---------------------------------------------------------------- both ends of bellpull

class Server:
    """Answers on a free port of 127.0.0.1, in this process."""

    def __init__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.reply(*outer.get(self.path))

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                self.reply(*outer.post(self.path, dict(self.headers.items()), body))

            def reply(self, status, body):
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, _path):
        return 404, b"{}"

    def post(self, _path, _headers, _body):
        return 404, b"{}"


class Upstream(Server):
    """Lists by path, as JSON text: what a test puts is what is sent, digit by digit."""

    def __init__(self):
        self.lists, self.asked = {}, {}
        super().__init__()

    def put(self, path, records):
        self.lists[path] = records if isinstance(records, str) else json.dumps(records)

    def get(self, path):
        self.asked[path] = self.asked.get(path, 0) + 1
        return (200, self.lists[path].encode()) if path in self.lists else (404, b'{"error":"no such list"}')


class Receiver(Server):
    """Notes what comes, by path, and answers as it was told to."""

    def __init__(self):
        self.status, self.got = {}, []
        super().__init__()

    def post(self, path, headers, body):
        status = self.status.get(path, 204)
        self.got.append((path, {name.lower(): value for name, value in headers.items()}, json.loads(body), status))
        return status, b"" if status == 204 else b'{"error":"<b>refused</b> by the receiver"}'

    def taken(self, path):
        """The events that were taken at a path, as (headers, event)."""
        return [(headers, event) for at, headers, event, status in list(self.got) if at == path and status == 204]


class Daemon:
    def __init__(self, name, config):
        """`config` has the place @DAEMON@ for its own table."""
        self.directory = WORK / name
        self.directory.mkdir()
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}/"
        self.config = self.directory / "bridges.toml"
        own = f'[daemon]\nstate-dir = "{self.directory}/state"\nlisten = "127.0.0.1:{self.port}"\n\n[network]\nallow = ["127.0.0.0/8"]\n'
        self.config.write_text(config.replace("@DAEMON@", own))
        self.process = None

    def bellpull(self, *arguments):
        argv = [BELLPULL, "--config", str(self.config), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=START_LIMIT_S, stdin=subprocess.DEVNULL)

    def start(self):
        with open(self.directory / "log", "ab") as log:
            argv = [BELLPULL, "--config", str(self.config), "run"]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

        def up():
            if self.process.poll() is not None:
                raise GaveUp(f"bellpull ended with {self.process.returncode}:\n{self.tail()}")
            return (self.directory / "state/token").exists() and self.api("status")

        wait_for("bellpull answers on daemon.listen", up, START_LIMIT_S)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self):
        return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-20:])

    def token(self):
        return (self.directory / "state/token").read_text().strip()

    def link(self):
        """What `bellpull dashboard` prints."""
        printed = self.bellpull("dashboard")
        found = re.search(r"http://\S+#code=\S+", printed.stdout)
        if not found:
            raise GaveUp(f"bellpull dashboard printed no link: {printed.stdout}{printed.stderr}")
        return found.group()

    def api(self, path, method="GET"):
        """The API, asked past the page; None when it does not answer with a 200."""
        token = self.token()
        request = urllib.request.Request(f"{self.base}api/{path}", method=method, headers={"authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=CALL_LIMIT_S) as answer:
                return json.load(answer)
        except (OSError, urllib.error.HTTPError, ValueError):
            return None

    def begins(self, code):
        """The status that a code is answered with."""
        body = json.dumps({"code": code}).encode()
        request = urllib.request.Request(f"{self.base}api/session", data=body, headers={"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=CALL_LIMIT_S) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def page_policy(self):
        with urllib.request.urlopen(self.base, timeout=CALL_LIMIT_S) as answer:
            return answer.headers.get("content-security-policy", "")

    def bridge(self, name):
        return self.api("status")["bridges"][name]

    def endpoint(self, name):
        return self.api("status")["endpoints"][name]


# ---------------------------------------------------------------- the browser

class Browser:
    """Chromium, without a window. What it asked for on the network is kept in `requests`."""

    def __init__(self, name):
        """With a fresh profile in the directory of that name."""
        self.profile = WORK / name
        self.bearers = set()
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--window-size=1280,900",
            f"--user-data-dir={self.profile}",
            # Whatever the browser itself would like to ask the world: no name leads anywhere.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ):
            options.add_argument(argument)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        env = dict(os.environ, HOME=str(WORK), TMPDIR=str(WORK))
        if libraries := os.environ.get("BROWSER_LIBRARIES"):
            env["LD_LIBRARY_PATH"] = libraries
        self.driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER, env=env))
        self.driver.set_script_timeout(60)
        self.requests, self.finished, self.console = [], {}, []
        self.paint("light")

    def version(self):
        return self.driver.capabilities["browserVersion"]

    def paint(self, scheme, width=None):
        """Light or dark; with a width a phone."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if width:
            metrics = {"width": width, "height": 780, "deviceScaleFactor": 2, "mobile": True}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        else:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def collect(self):
        """Reads the logs of the browser, which it hands out once."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            params = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append((params["request"]["method"], params["request"]["url"]))
                headers = {name.lower(): value for name, value in params["request"]["headers"].items()}
                self.bearers.add(headers.get("authorization", "").removeprefix("Bearer "))
                self.finished[params["requestId"]] = [params["request"]["url"], 0]
            elif message["method"] == "Network.loadingFinished" and params["requestId"] in self.finished:
                self.finished[params["requestId"]][1] = params["encodedDataLength"]
        self.console += [entry["message"] for entry in self.driver.get_log("browser")]

    def quit(self):
        self.collect()
        self.driver.quit()

    def written(self):
        """Every file of the profile, once the browser has ended."""
        return [(path.relative_to(self.profile), path.read_bytes()) for path in self.profile.rglob("*") if path.is_file()]

    def text(self, css="main"):
        """What a person reads there; "" where nothing is shown."""
        try:
            return self.driver.find_element(By.CSS_SELECTOR, css).text
        except (NoSuchElementException, StaleElementReferenceException):
            return ""

    def sees(self, words, css="main", limit_s=WAIT_LIMIT_S):
        """Waits for words."""
        try:
            return wait_for(f"the page shows {words!r} in {css}", lambda: words in self.text(css), limit_s)
        except GaveUp as reason:
            raise GaveUp(f"{reason}; it shows {self.text(css)[:600]!r}") from None

    def go(self, route):
        """To a page, as a link does; the name of the page is what is waited for."""
        self.js("location.hash = arguments[0]", route)
        wanted = {"bridge": "Bridge ", "endpoint": "Endpoint ", "event": "Event "}.get(route.split("/")[1], "")
        wait_for(f"the page {route}", lambda: self.text("main > section:not([hidden]) h1").startswith(wanted))

    def button(self, label, within="body"):
        """The first one that is shown."""

        def found():
            for one in self.driver.find_elements(By.CSS_SELECTOR, f"{within} button"):
                try:
                    if one.is_displayed() and one.text == label:
                        return one
                except StaleElementReferenceException:
                    pass
            return None

        return wait_for(f"a button {label!r}", found)

    def click(self, label, within="body"):
        one = self.button(label, within)
        self.js("arguments[0].scrollIntoView({block: 'center'})", one)
        one.click()

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        """What has the focus: its text, and whether a person can see that it does."""
        return self.js("""
            const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
            const inside = box.width > 0 && box.bottom > 0 && box.top < innerHeight;
            return [one.tagName, one.id || one.textContent.trim(), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 && inside];
        """)

    def tab_to(self, label):
        """Presses Tab until something of that text or id has the focus; what had it on the way."""
        way = []
        for _ in range(TABS_MAX):
            self.press(Keys.TAB)
            way.append(self.focused())
            if way[-1][1] == label:
                return way
        raise GaveUp(f"Tab does not lead to {label!r}: {[one[1][:30] for one in way]}")

    def axe(self, view):
        """No fault that axe-core calls serious or critical; all others are printed."""
        self.js(AXE.read_text())
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        result = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run(document, {runOnly: arguments[0]}).then(done, (e) => done({error: String(e)}))", tags
        )
        if "error" in result:
            return check(f"axe, {view}: runs", False, result["error"])
        faults = [(one["impact"], one["id"], [node["html"][:160] for node in one["nodes"]][:3]) for one in result["violations"]]
        grave = [one for one in faults if one[0] in ("serious", "critical")]
        for one in faults:
            if one not in grave:
                print(f"          axe, {view}, {one[0]}: {one[1]} {one[2]}")
        return check(f"axe, {view}: no serious or critical fault ({len(result['passes'])} rules pass)", not grave and result["passes"], grave)

    def shot(self, name):
        self.driver.save_screenshot(str(SHOTS / f"{name}.png"))

    def quit(self):
        self.driver.quit()
