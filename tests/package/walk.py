"""The steps of walk.sh, which starts it in a network of its own.

walk.py BELLPULL CHROMIUM CHROMEDRIVER AXE WORK SHOTS SUITE ROOT TLS DEB LATER; the first six are those of tests/browser/harness.py.

What the admin types stands in a code block of docs/operating.md or systemd/README.md, word for word, or `Admin` refuses it; at the end each command of the sections was typed. What
the admin sees is what these commands print, the page, and what a receiver prints. Beside them walk.py plays the world: GitHub, and the download of packages.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "browser"))
from harness import SHOTS, WORK, Browser, GaveUp, check, check_soon, failed, passed, wait_for  # noqa: E402

SUITE = sys.argv[7]
ROOT, TLS, DEB, LATER = map(Path, sys.argv[8:12])
TREE = HERE.parents[1]
SECTIONS = (
    (TREE / "docs/operating.md", "On a server"),
    (TREE / "docs/operating.md", "Backups, and moving to another machine"),
    (TREE / "systemd/README.md", "The socket, made by systemd"),
)

GITHUB = "140.82.121.6"  # public, so that the daemon's guard lets it be; it is on the loopback interface of this network
BRANCHES = "/repos/octocat/Hello-World/branches"
BOOT_LIMIT_S = 60
COMMAND_LIMIT_S = 90  # apt is the slowest
POLL_LIMIT_S = 100  # docs/operating.md polls once a minute


# ---------------------------------------------------------------- the world

class GitHub:
    """One list, with an ETag, as its documents show it."""

    def __init__(self):
        self.commits = {"master": "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d", "octocat-patch-1": "b1b3f9723831141a31a1a7252a213e216ea76e56",
                        "test": "b3cbd5bbd7e81436d2eee04537ea2b4c0cad4cdf"}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path != BRANCHES or self.headers.get("host") != "api.github.com" or not self.headers.get("user-agent"):
                    return self.reply(404, b'{"message":"Not Found"}')
                tag = 'W/"' + "-".join(commit[:8] for commit in outer.commits.values()) + '"'
                if self.headers.get("if-none-match") == tag:
                    return self.reply(304, b"", tag)
                self.reply(200, json.dumps([
                    {"name": name, "protected": False,
                     "commit": {"sha": sha, "url": f"https://api.github.com/repos/octocat/Hello-World/commits/{sha}"}}
                    for name, sha in outer.commits.items()
                ]).encode(), tag)

            def reply(self, status, body, tag=None):
                self.send_response(status)
                if tag:
                    self.send_header("etag", tag)
                if status != 304:
                    self.send_header("content-type", "application/json; charset=utf-8")
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer((GITHUB, 443), Handler)
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def push(self, branch):
        """A commit; its id is what the updates of this branch are known by."""
        sha = hashlib.sha1(self.commits[branch].encode()).hexdigest()
        self.commits[branch] = sha
        return sha


class Machine:
    """ROOT, with its systemd as process 1. Its root is pivoted to, not changed: inside of a chroot no unit could have PrivateUsers=."""

    BOOT = """
        mount --make-rprivate /
        mount --bind "$0" "$0"
        mount -t proc proc "$0/proc"
        mount -t sysfs sysfs "$0/sys"
        mkdir -p "$0/sys/fs/cgroup"
        mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
        mount -t tmpfs tmpfs "$0/run"
        mount -t tmpfs tmpfs "$0/tmp"
        mount --rbind /dev "$0/dev"
        cd "$0"
        mkdir -p .before
        pivot_root . .before
        umount --lazy .before
        mount --make-rshared /
        exec env -i container=other PATH=/usr/bin:/usr/sbin:/bin:/sbin /lib/systemd/systemd --system
    """

    def __init__(self):
        with open(WORK / "boot.log", "wb") as log:
            argv = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--cgroup", "--uts", "--ipc", "bash", "-ec", self.BOOT, str(ROOT)]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

        def first():
            if self.process.poll() is not None:
                raise GaveUp(f"the machine ended: {(WORK / 'boot.log').read_text()[-500:]}")
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd" and children[0]

        self.init = wait_for("systemd runs", first, BOOT_LIMIT_S)
        wait_for("systemd has booted", lambda: self.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"), BOOT_LIMIT_S)

    def argv(self, command):
        environment = ["env", "-i", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"]
        namespaces = ["nsenter", "-t", self.init, "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"]
        return [*namespaces, *environment, "bash", "-c", f"cd /root && {command}"]

    def run(self, command):
        return subprocess.run(self.argv(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_LIMIT_S)

    def off(self):
        self.process.kill()
        self.process.wait()


# ---------------------------------------------------------------- the documents

def commands():
    """What can be typed, in its order, by its first line without a comment. A here-document is one command."""
    found = {}
    for page, section in SECTIONS:
        text = page.read_text().split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
        for block in re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S):
            lines = iter(block.splitlines())
            for line in lines:
                whole, heredoc = [line], re.search(r"<< '(\w+)'$", line)
                while heredoc and whole[-1] != heredoc.group(1):
                    whole.append(next(lines))
                found[re.sub(r"\s+#.*", "", line)] = "\n".join(whole)
    return found


class Admin:
    """Types only what the documents say."""

    def __init__(self, machine):
        self.machine, self.known, self.typed = machine, commands(), set()

    def line(self, command):
        if command not in self.known:
            raise GaveUp(f"`{command}` stands in no code block of the documents")
        self.typed.add(command)
        return self.known[command]

    def types(self, command, status=0):
        """What it prints."""
        line = self.line(command)
        ran = self.machine.run(line)
        if not check(f"$ {command}", ran.returncode == status, f"status {ran.returncode}: {ran.stdout}{ran.stderr}"):
            raise GaveUp("nobody could go on")
        return ran.stdout + ran.stderr

    def sees(self, what, command, *words):
        """Types it again until it shows all words."""
        line, seen = self.line(command), [""]

        def shows():
            ran = self.machine.run(line)
            seen[0] = ran.stdout + ran.stderr
            time.sleep(0.5)
            return all(re.search(word, seen[0]) for word in words)

        try:
            check(f"$ {command}: {what}", wait_for(what, shows, POLL_LIMIT_S))
        except GaveUp:
            check(f"$ {command}: {what}", False, seen[0])
            raise GaveUp("nobody could go on") from None


class Terminal:
    """A second one, with a command that goes on."""

    def __init__(self, admin, command):
        self.lines = []
        argv = admin.machine.argv(f"exec {admin.line(command)}")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()

    def text(self):
        return "".join(list(self.lines))

    def interrupt(self):
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(10)


def file_of_a_machine(path, text):
    """An editor."""
    (ROOT / path).write_text(text)


# ---------------------------------------------------------------- the day

def day(github, machine, browser):
    admin = Admin(machine)
    status, receive = "bellpull status", 'bellpull listen --port 9000 --secret-file /etc/bellpull/secrets/desk'
    tested, enabled = "bellpull endpoint test desk", "bellpull endpoint enable desk"
    shutil.copy(DEB, ROOT / "root" / "bellpull_1_amd64.deb")

    print("install")
    admin.types("apt install ./bellpull_*.deb")
    admin.types("bellpull secret > /etc/bellpull/secrets/desk")
    admin.types("systemctl enable --now bellpull")
    admin.sees("it runs, and says that nothing is to be done", "systemctl status bellpull", r"Active: active \(running\)", r'Status: "0 bridges')

    print("a bridge is added")
    admin.types("cat > /etc/bellpull/conf.d/branches.toml << 'END'")
    admin.types("echo 'network.allow = [\"127.0.0.1\"]' >> /etc/bellpull/bridges.toml")
    said = admin.types("bellpull check")
    check("check counts it", "1 bridges, 1 endpoints" in said, said)
    admin.types("systemctl reload bellpull")
    admin.sees("the reload is done", "systemctl status bellpull", r"Active: active \(running\)", r'Status: "1 bridge')
    receiver = Terminal(admin, receive)
    check_soon("each branch comes once, and verifies", lambda: soon(lambda: len(re.findall(r"branches\.created", receiver.text())) == 3))
    admin.sees("all is well", status, r"branches\s", r"desk\s")
    admin.sees("three events", "bellpull events", "master", "octocat-patch-1", "test")

    print("a file with a mistake")
    file_of_a_machine("etc/bellpull/conf.d/wrong.toml", '[bridge.wrong]\nevry = "1m"\n')
    said = admin.types("bellpull check", status=78)
    check("check says where and what", "wrong.toml:2:1" in said and "every" in said, said)
    admin.types("systemctl reload bellpull")
    admin.sees("the old file goes on, and the reason is told", "systemctl status bellpull", r"Active: active \(running\)", r"1 bridge", r"reload refused")
    (ROOT / "etc/bellpull/conf.d/wrong.toml").unlink()
    admin.types("systemctl reload bellpull")
    admin.sees("the mended file is taken", "systemctl status bellpull", r'Status: "1 bridge[^"]*"')

    print("the page")
    link = re.search(r"http://\S+#code=\S+", admin.types("bellpull dashboard"))
    if not link:
        raise GaveUp("bellpull dashboard printed no link")
    browser.driver.get(link.group())
    browser.sees("branches")
    browser.sees("desk")
    sha = github.push("master")
    browser.go("#/bridge/branches")
    browser.sees(sha, limit_s=POLL_LIMIT_S)
    check("a commit shows on the page, by itself", True)
    browser.driver.save_screenshot(str(SHOTS / f"walk-{SUITE}-bridge.png"))
    check_soon("and at the receiver", lambda: soon(lambda: sha in receiver.text()))

    print("an endpoint breaks")
    receiver.interrupt()
    admin.types("bellpull resend branches --endpoint desk")
    admin.sees("it is down, three wait", status, r"desk\s.*down.*\b3\b")
    admin.sees("why", "bellpull deliveries --endpoint desk", r"(?i)refused")
    admin.sees("the log says so", "journalctl -u bellpull ENDPOINT=desk", r"bellpull\[\d+\]: .*endpoint")
    browser.go("#/endpoint/desk")
    browser.sees("down")
    browser.driver.save_screenshot(str(SHOTS / f"walk-{SUITE}-down.png"))

    print("and is mended")
    receiver = Terminal(admin, receive)
    wait_for("the receiver listens", lambda: receiver.text())
    said = admin.types(tested)
    check("the test is taken", "20" in said, said)
    admin.types(enabled)
    check_soon("what waited comes", lambda: len(re.findall(r"branches\.present", receiver.text())) == 3)
    admin.sees("nothing waits", status, r"desk\s+(?!.*down)")
    browser.sees("Endpoint desk ok")

    print("an upgrade")
    before = stream(receiver)
    admin.types("bellpull export /root/bellpull.jsonl")
    (ROOT / "root/bellpull_1_amd64.deb").unlink()
    shutil.copy(LATER, ROOT / "root/bellpull_2_amd64.deb")
    admin.types("apt install ./bellpull_*.deb")
    admin.sees("it runs again", "systemctl status bellpull", r"Active: active \(running\)", r'Status: "1 bridge')
    admin.sees("nothing is lost", status, r"branches\s.*\b3\b")
    sha = github.push("test")
    check_soon("changes come as before", lambda: soon(lambda: sha in receiver.text()))
    *earlier, last = numbers(receiver)
    check("in the same stream, with the next number", stream(receiver) == before and last > max(earlier), (before, stream(receiver), earlier, last))

    print("a backup, on another machine")
    admin.types("bellpull export backup.jsonl")
    admin.types("systemctl stop bellpull")
    for path in ("var/lib/private/bellpull", "var/lib/bellpull"):  # another machine has none
        if (ROOT / path).is_symlink():
            (ROOT / path).unlink()
        else:
            shutil.rmtree(ROOT / path)
    admin.types("STATE_DIRECTORY=/var/lib/bellpull bellpull --config /etc/bellpull/bridges.toml import backup.jsonl")
    admin.types("systemctl start bellpull")
    admin.sees("the records are there", status, r"branches\s.*\b3\b")
    sha = github.push("octocat-patch-1")
    check_soon("changes come", lambda: soon(lambda: sha in receiver.text()))
    check("in a new stream", stream(receiver) != before, before)
    receiver.interrupt()

    print("the socket of systemd")
    admin.types("systemctl stop bellpull")
    admin.types("mkdir -p /etc/systemd/system/bellpull.service.d")
    admin.types("printf '[Service]\\nRuntimeDirectory=\\n' > /etc/systemd/system/bellpull.service.d/socket.conf")
    admin.types("systemctl daemon-reload")
    admin.types("systemctl enable --now bellpull.socket")
    admin.types("systemctl start bellpull")
    admin.sees("the daemon answers on it", status, r"branches\s.*\b3\b")
    check("systemd holds it", "bellpull.socket" in machine.run("systemctl list-sockets").stdout)


    left = set(admin.known) - admin.typed
    check("each command of the documents' sections was typed", not left, sorted(left))


def soon(condition):
    """For what takes a poll."""
    until = time.monotonic() + POLL_LIMIT_S
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def stream(receiver):
    """The last one that came."""
    return (re.findall(r'"stream":\s*"(s_\w+)"', receiver.text()) or [None])[-1]


def numbers(receiver):
    """The sequence numbers, as they came: in order for each record, not over all of them."""
    return [int(n) for n in re.findall(r'"sequence":\s*(\d+)', receiver.text())]


def main():
    subprocess.run("ip link set lo up && ip address add 140.82.121.6/32 dev lo", shell=True, check=True)
    started, github, browser = time.monotonic(), GitHub(), None
    machine = Machine()
    print(f"{SUITE}: {machine.run('systemctl --version').stdout.splitlines()[0]}")
    try:
        browser = Browser()
        day(github, machine, browser)
    except GaveUp as reason:
        check("the day goes on", False, reason)
    finally:
        if failed:
            print(machine.run("journalctl -u bellpull --no-pager | tail -n 40").stdout)
        if browser:
            browser.driver.quit()
        machine.off()
    print(f"{SUITE}: {len(passed)} checks passed, {len(failed)} failed, {time.monotonic() - started:.0f} s")
    sys.exit(1 if failed else 0)


main()
