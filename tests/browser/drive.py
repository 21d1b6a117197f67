"""Clicks through the dashboard in Chromium, and asks the daemon's API and a receiver what came of it.

Usage: python3 drive.py BELLPULL CHROMIUM CHROMEDRIVER AXE WORK SHOTS      (run.sh calls it, with selenium on PYTHONPATH)

The last line reads `N passed, F failed`, and the exit code is 1 unless F is 0.
"""

import re
import signal
import sys
import traceback
from urllib.parse import quote, unquote, urlparse

import large
from harness import (
    Browser,
    Daemon,
    GaveUp,
    Keys,
    Receiver,
    Upstream,
    check,
    check_soon,
    failed,
    passed,
    wait_for,
)

HOSTILE = '<img src=x onerror="window.hacked = true">'
HOSTILE_JSON = HOSTILE.replace('"', '\\"')

# name: (path of its list, its endpoint, more)
BRIDGES = {
    "shop": ("shop", "me", ""),
    "till": ("till", "me", ""),
    "slow": ("slow", "me", 'every = "24h"'),
    "broken": ("nowhere", "me", ""),
    "hostile": ("hostile", "picky", ""),
    "queue": ("queue", "down", ""),
    "branch": ("branch", "me", 'every = "24h"\neach.list = ["north/1"]'),
}
ENDPOINTS = {"me": "", "picky": 'retry = { schedule = ["100ms"] }', "down": ""}


def config(up, to):
    text = '@DAEMON@\n[defaults.bridge]\nevery = "300ms"\nalert = { after = 1000 }\n'
    for name, (path, endpoint, more) in BRIDGES.items():
        text += f'[bridge.{name}]\nitems = ".[]"\nkey = ".id"\nto = ["{endpoint}"]\n{more}\nsource.http.url = "{up}/{path}"\n'
    for name, more in ENDPOINTS.items():
        text += f'[endpoint.{name}]\nurl = "{to}/{name}"\n{more}\n'
    return text


def records(count, first=1, **more):
    return [{"id": number, "name": f"record {number}", **more} for number in range(first, first + count)]


def hostile(price, big):
    """Digits that a float would lose, and markup that must stay text."""
    return f'[{{"id":"{HOSTILE_JSON}","price":{price},"big":{big},"text":"{HOSTILE_JSON}{price}","turned":"\\u202e{price}"}}]'


class World:
    def __init__(self):
        self.up, self.to = Upstream(), Receiver()
        for name in ("shop", "till", "slow", "queue", "branch"):
            self.up.put(f"/{name}", records(12))
        self.up.put("/hostile", hostile("1.10", "12345678901234567890"))
        self.to.status = {"/picky": 400, "/down": 503}
        self.daemon = Daemon("clicks", config(self.up.url, self.to.url))
        self.daemon.start()
        for name in ("shop", "till", "hostile", "queue"):
            wait_for(f"the baseline of {name}", lambda name=name: self.daemon.bridge(name)["version"] > 0)
        self.up.put("/hostile", hostile("1.20", "12345678901234567891"))
        self.up.put("/queue", records(12, sold=True))
        self.browser = Browser("profile")


def judge(browser, view, shot):
    """What is shown now, in light and dark."""
    for scheme in ("dark", "light"):
        browser.paint(scheme)
        browser.axe(f"{view}, {scheme}")
        browser.shot(f"{scheme}-{shot}")


def the_token(w):
    b, base = w.browser, w.daemon.base
    b.driver.get(base)
    b.sees("The token")
    judge(b, "the token", "token")
    check("without a token the page asks for one, and the field has the focus", b.focused()[1] == "ask-token", b.focused())
    b.press("wrong", Keys.ENTER)
    b.sees("Failed", "#said")
    check("a wrong token is refused in words", "token is missing or wrong" in b.text("#said"), b.text("#said"))
    b.press(w.daemon.token(), Keys.ENTER)
    b.sees("7 bridges", "h1#summary")
    check("a typed token opens the page", True)
    link = w.daemon.link()
    b.driver.get("about:blank")
    b.driver.get(link)
    b.sees("7 bridges", "h1#summary")
    check("the link of `bellpull dashboard` opens the page", True)
    check("the code is not in the address any more", "code" not in b.driver.current_url, b.driver.current_url)
    check("nothing is kept beyond the tab", b.js("return [document.cookie, localStorage.length]") == ["", 0])
    b.driver.refresh()
    b.sees("7 bridges", "h1#summary")
    check("a reload does not ask again", True)
    b.driver.refresh()
    b.sees("7 bridges", "h1#summary")
    check("nor does a second one", True)
    b.js("sessionStorage.clear()")
    b.driver.get("about:blank")
    b.driver.get(link)
    b.sees("The token")
    check("a link that has been used lets nobody in", "works once" in b.text("#said"), b.text("#said"))
    b.driver.get("about:blank")
    b.driver.get(w.daemon.link())
    b.sees("7 bridges", "h1#summary")


def the_overview(w):
    b = w.browser
    b.sees("live", "#live")
    wait_for("the endpoint is down", lambda: w.daemon.endpoint("down")["state"] == "down")
    wait_for("an event is dead", lambda: w.daemon.endpoint("picky")["dead"] == 1)
    wait_for("a bridge fails", lambda: w.daemon.bridge("broken")["state"] == "failing")
    summary = "7 bridges, 1 failing, 0 held; 1 of 3 endpoints down, 12 waiting, 1 dead"
    b.sees(summary, "h1#summary")
    check("the summary says how it stands, live", True)
    check("and so does the title", b.driver.title.startswith(summary), b.driver.title)
    check("the failing bridge comes first, and its row says why", b.text("#bridges tbody:not(.pad) tr").startswith("broken") and "404" in b.text("#bridges tbody:not(.pad) tr"), b.text("#bridges"))
    wait_for("the strip", lambda: b.js("const i = document.querySelector('#strip img'); return i && i.complete && i.naturalWidth > 0 && i.src.startsWith('blob:')"))
    check("the strip of the last day is a picture, and its text says what it shows", "polls" in b.js("return document.querySelector('#strip img').alt"))
    names = lambda: b.js("return [...document.querySelectorAll('#bridges tbody a')].map((a) => a.textContent)")
    b.js("document.getElementById('search').focus()")
    b.press("HOST")
    check_soon("the search finds by name", lambda: names() == ["hostile"])
    b.press(*[Keys.BACKSPACE] * 4, "404")
    check_soon("and by error", lambda: names() == ["broken"])
    b.press(*[Keys.BACKSPACE] * 3)
    b.js("const s = document.getElementById('state'); s.value = 'attention'; s.dispatchEvent(new Event('input'))")
    check_soon("the filter leaves what needs attention", lambda: names() == ["broken"] and "picky" in b.text("#endpoints") and "down" in b.text("#endpoints") and "me" not in b.text("#endpoints").split())
    b.js("const s = document.getElementById('state'); s.value = ''; s.dispatchEvent(new Event('input'))")
    b.js("document.querySelector('#log').open = true")
    w.up.put("/shop", records(12, seen=1))
    b.sees("shop changed: 0 created, 12 updated, 0 deleted", "#log-list")
    check("the log tells of a poll that found changes, as it happens", True)
    b.js("document.querySelector('#log').open = false")


def hold(w, name):
    b = w.browser
    w.up.put(f"/{name}", records(2, seen=1))
    wait_for(f"{name} is held", lambda: w.daemon.bridge(name)["state"] == "held")
    b.sees(", 1 held", "h1#summary")
    b.sees("held", "#bridges tbody:not(.pad) tr:nth-child(2)")
    b.driver.find_element("link text", name).click()
    b.sees(f"Bridge {name}", "#page h1")
    b.sees("delete 10", "#page")


def posted(b, part):
    b.collect()
    return [url for method, url in b.requests if method == "POST" and part in url]


def accept(w):
    b = w.browser
    hold(w, "shop")
    shown = w.daemon.bridge("shop")["hold"]
    check("a held poll shows its reason and its hash", shown["reason"] in b.text("#page") and shown["hash"] in b.text("#page"), b.text("#page"))
    check("the page's title names the bridge and its state", b.driver.title.startswith("shop: held"), b.driver.title)
    judge(b, "a held bridge", "bridge")
    b.click("Accept")
    check_soon("Accept: the answer is committed", lambda: w.daemon.bridge("shop")["records"] == 2 and "hold" not in w.daemon.bridge("shop"))
    check("Accept sent the hash that was shown", [unquote(url).endswith(f"/accept?hash={shown['hash']}") for url in posted(b, "/accept")] == [True], posted(b, "/accept"))
    deleted = lambda: [event for _, event in w.to.taken("/me") if event["type"] == "shop.deleted"]
    check_soon("Accept: ten deletions arrive", lambda: len(deleted()) == 10)
    check_soon("Accept: the page says so", lambda: "shop:" in b.text("#said") and "Failed" not in b.text("#said"))
    check_soon("Accept: the hold is gone from the page, and the deletions stand in its events", lambda: "Accept commits" not in b.text("#page") and "deleted 12" in b.text("#page"))
    check_soon("the focus is on the page's name, as its button is gone", lambda: b.focused()[0] == "H1")
    b.go("#/")


def reject(w):
    b = w.browser
    hold(w, "till")
    before = len(w.to.taken("/me"))
    b.click("Reject")
    check_soon("Reject: it is rejected, and nothing is committed", lambda: w.daemon.bridge("till").get("hold", {}).get("rejected") and w.daemon.bridge("till")["records"] == 12)
    b.sees("was rejected", "#page")
    check("Reject: nothing was sent", len(w.to.taken("/me")) == before)


def poll_pause_resume(w):
    b = w.browser
    b.go("#/bridge/slow")
    asked = w.up.asked.get("/slow", 0)
    b.click("Poll now")
    check_soon("Poll now: the source is asked once more", lambda: w.up.asked.get("/slow", 0) == asked + 1)
    check_soon("Poll now: what came of it is told", lambda: "slow:" in b.text("#said") and "Failed" not in b.text("#said"))
    b.go("#/bridge/broken")
    b.sees("404", "#page .error")
    b.click("Poll now")
    b.sees("Failed: ", "#said")
    judge(b, "a failing bridge", "failing")
    check("a poll by hand that fails says why", "404" in b.text("#said"), b.text("#said"))

    b.go("#/")
    b.driver.find_element("link text", "branch/north/1").click()
    b.sees("Bridge branch/north/1", "#page h1")
    asked = w.up.asked.get("/branch", 0)
    b.click("Poll now")
    check_soon("a member whose name has a slash is polled by hand, too", lambda: w.up.asked.get("/branch", 0) == asked + 1)

    # By keyboard alone, from the overview.
    b.go("#/")
    b.driver.refresh()
    b.sees("7 bridges", "h1#summary")
    b.sees("slow", "#bridges")
    b.press(Keys.TAB)
    check("the first Tab leads to the skip link, which is seen", b.focused() == ["A", "skip", True], b.focused())
    b.press(Keys.ENTER)
    check("Enter there goes to the content", b.focused()[1].startswith("main") or b.focused()[1] == "main", b.focused())
    way = b.tab_to("slow")
    unseen = [one for one in way if not one[2]]
    check(f"each of {len(way)} steps of Tab is seen", not unseen, unseen)
    b.press(Keys.ENTER)
    b.sees("Bridge slow", "#page h1")
    check("Enter opens the bridge, and the focus is on its name", b.focused()[0] == "H1", b.focused())
    b.tab_to("Pause")
    b.press(Keys.ENTER)
    check_soon("Pause, by keyboard: it is paused", lambda: w.daemon.bridge("slow")["state"] == "paused")
    b.sees("paused", "#page h1")
    check_soon("the focus is not lost", lambda: b.focused()[0] in ("H1", "BUTTON"))
    b.shot("light-paused")
    b.js("document.querySelector('#page h1').focus()")
    b.tab_to("Resume")
    b.press(Keys.SPACE)
    check_soon("Resume, by keyboard: it is polled again", lambda: w.daemon.bridge("slow")["state"] != "paused")
    b.js("history.back()")
    check_soon("back on the overview the focus is where one left it", lambda: b.focused()[1] == "slow")


def dead_letters(w):
    b = w.browser
    b.go("#/endpoint/picky")
    b.sees("picky: dead", "#page")
    check("a dead letter shows the attempts that failed, and the receiver's answer as text", "400" in b.text("#page") and '<b>refused</b> by the receiver' in b.text("#page"), b.text("#page"))
    judge(b, "an endpoint", "endpoint")
    dead = w.daemon.api("deliveries?endpoint=picky&state=dead")
    w.to.status["/picky"] = 204
    b.click("Replay", "#page .event")
    check_soon("Replay: the dead letter arrives, with its id", lambda: [headers["webhook-id"] for headers, _ in w.to.taken("/picky")] == [dead[0]["id"]])
    check("Replay: it says that it is one", w.to.taken("/picky")[0][0].get("bellpull-replay") == "true", w.to.taken("/picky"))
    b.sees("No event is dead.", "#page")
    w.to.status["/picky"] = 400
    for price in ("1.30", "1.40", "1.50"):
        sequence = w.daemon.bridge("hostile")["sequence"]
        w.up.put("/hostile", hostile(price, "12345678901234567892"))
        wait_for("the change is seen", lambda: w.daemon.bridge("hostile")["sequence"] > sequence)
    wait_for("three are dead", lambda: w.daemon.endpoint("picky")["dead"] == 3)
    check_soon("dead letters appear on the page by themselves", lambda: b.text("#page").count("picky: dead") == 3)
    w.to.status["/picky"] = 204
    b.click("Replay all dead")
    check_soon("Replay all dead: they arrive", lambda: len(w.to.taken("/picky")) == 4 and w.daemon.endpoint("picky")["dead"] == 0)
    b.sees("3 deliveries of 3 events", "#said")


def disable_enable_test(w):
    b = w.browser
    b.go("#/endpoint/me")
    b.click("Disable")
    b.sees("Disable the endpoint me?", "#sure")
    check("Disable asks first, and Cancel has the focus", b.focused()[1] == "sure-no", b.focused())
    judge(b, "the question", "question")
    b.press(Keys.ESCAPE)
    check_soon("Escape closes the question", lambda: b.text("#sure") == "")
    check("and nothing was disabled", w.daemon.endpoint("me")["state"] == "ok" and not posted(b, "/disable"), w.daemon.endpoint("me"))
    b.click("Disable")
    b.click("Disable", "#sure")
    check_soon("Disable, confirmed: it is disabled", lambda: w.daemon.endpoint("me")["state"] == "disabled")
    b.sees("disabled", "#page h1")
    before = len(w.to.taken("/me"))
    w.up.put("/shop", records(3, seen=1))
    check_soon("an event waits, and the page shows it", lambda: w.daemon.endpoint("me")["waiting"] == 1 and "created 3" in b.text("#page"))
    check("it was not sent", len(w.to.taken("/me")) == before)
    b.click("Enable")
    check_soon("Enable: what waited arrives", lambda: [event["data"]["key"] for _, event in w.to.taken("/me")[before:]] == ["3"])
    b.click("Test")
    check_soon("Test: a test event arrives", lambda: any(event["type"] == "bellpull.test" for _, event in w.to.taken("/me")))
    b.sees("the test was answered with 204", "#said")
    b.go("#/endpoint/down")
    b.sees("503", "#page dl")
    check_soon("what waits at an endpoint that is down is listed", lambda: "down: waiting" in b.text("#page") and "Next attempt" in b.text("#page"))


def an_event(w):
    b = w.browser
    first = [one for one in w.daemon.api("events?bridge=hostile&limit=50") if one["sequence"] == 1][0]
    b.go(f"#/event/{first['id']}")
    b.sees("/price", "#page .diff")
    rows = b.js("return [...document.querySelectorAll('#page .diff tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))")
    wanted = {
        "/price": ("1.10", "1.20"),
        "/big": ("12345678901234567890", "12345678901234567891"),
        "/text": (f'"{HOSTILE_JSON}1.10"', f'"{HOSTILE_JSON}1.20"'),
        "/turned": ('"\\u202e1.10"', '"\\u202e1.20"'),
    }
    check("an update is a table of path, old and new, with every digit, and what cannot be seen by its number", {path: (old, new) for path, old, new in rows} == wanted, rows)
    check("its deliveries and attempts are listed", "picky" in b.text("#page") and "400" in b.text("#page") and "204" in b.text("#page"), b.text("#page"))
    judge(b, "an event", "event")
    before = len(w.to.taken("/picky"))
    b.click("Replay")
    check_soon("Replay: the event arrives again", lambda: [headers["webhook-id"] for headers, _ in w.to.taken("/picky")[before:]] == [first["id"]])
    b.go("#/event/evt_0000000000000000000000")
    b.sees("no event is called", "#page")
    check("an event that is not there is said to be so, in words", True)
    b.go("#/bridge/" + quote("no<b>such/one"))
    b.sees("No bridge is called no<b>such/one", "#page")
    check("and a bridge", True)
    b.go("#/bridge/hostile")
    b.sees("1.50", "#page .diff")
    check_soon("a bridge's events show their changes", lambda: "1.40" in b.text("#page .diff"))


# Each step's path counts what the ones before it did; digits stay, and a name such as __proto__ is one like any other.
PATCHED = """{"before":{"n":1.10,"l":[1,2,3],"__proto__":{"x":1},"a/b~":12345678901234567890},"patch":[
    {"op":"remove","path":"/l/0"},{"op":"replace","path":"/l/1","value":9.00},{"op":"add","path":"/l/0","value":"first"},{"op":"add","path":"/l/-","value":[]},
    {"op":"replace","path":"/n","value":1e2},{"op":"add","path":"/a~1b~0","value":12345678901234567891},{"op":"remove","path":"/__proto__/x"},
    {"op":"replace","path":"","value":{"l":null}}]}"""
ROWS = [
    ["/l/0", "1", None], ["/l/1", "3", "9.00"], ["/l/0", None, '"first"'], ["/l/-", None, "[]"],
    ["/n", "1.10", "1e2"], ["/a~1b~0", "12345678901234567890", "12345678901234567891"], ["/__proto__/x", "1", None],
]
WHOLE = ["", '{ "n": 1e2, "l": [ "first", 2, 9.00, [] ], "__proto__": {}, "a/b~": 12345678901234567891 }', '{ "l": null }']


def patches(w):
    """The table of a patch, from its module, with steps that the daemon's own patches do not have."""
    rows = w.browser.driver.execute_async_script("""
        const done = arguments[1];
        import("/values.js").then(({ parse, changes }) => {
            const all = parse(arguments[0]);
            done(changes(all.get("before"), all.get("patch")).map((row) => [row.path, row.old ?? null, row.fresh ?? null]));
        }).catch((error) => done(String(error)));
    """, PATCHED)
    check("each step of a patch shows what it finds", rows[:-1] == ROWS, rows)
    last = [value and " ".join(value.split()) for value in rows[-1]]
    check("and the last one the whole record", sorted(last[1].strip("{ }").split(", ")) == sorted(WHOLE[1].strip("{ }").split(", ")) and last[2] == WHOLE[2], last)


def views(w):
    """Each view, in light, dark and on a phone."""
    b = w.browser
    event = w.daemon.api("events?bridge=hostile&limit=1")[0]["id"]
    b.go("#/")
    b.js("document.querySelector('#log').open = true; scrollTo(0, 0)")
    b.sees("changed", "#log-list")
    judge(b, "the overview", "overview")
    b.js("document.querySelector('#log').open = false")
    for name, route, words in (
        ("overview", "#/", "404"),
        ("bridge", "#/bridge/hostile", "1.50"),
        ("failing", "#/bridge/broken", "404"),
        ("endpoint", "#/endpoint/picky", "<b>refused</b>"),
        ("event", f"#/event/{event}", "<b>refused</b>"),
    ):
        b.paint("light", 360)
        b.go(route)
        b.sees(words)
        wide = b.js("return [document.documentElement.scrollWidth, innerWidth]")
        check(f"{name}: nothing is wider than a phone of 360 px", wide == [360, 360], wide)
        b.axe(f"{name}, phone")
        b.shot(f"phone-{name}")
    b.paint("light")


def out_and_back(w):
    b = w.browser
    b.go("#/")
    w.daemon.stop()
    b.sees("not connected", "#live")
    check("a daemon that is gone is said to be", True)
    w.daemon.start()
    b.sees("live", "#live", 45)
    check("the page is live again by itself once the daemon is", True)


def what_was_asked(w):
    b = w.browser
    b.collect()
    policy = w.daemon.page_policy()
    check("the page comes with a policy that lets nothing inline or foreign in", "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy, policy)
    check("a value that is markup ran nothing", b.js("return window.hacked === undefined && [...document.images].every((one) => one.src.startsWith('blob:'))"))
    elsewhere = {url for _, url in b.requests if not url.startswith((w.daemon.base, "blob:" + w.daemon.base.rstrip("/"), "data:", "about:", "chrome"))}
    check(f"none of {len(b.requests)} requests went to another origin", len(b.requests) > 50 and not elsewhere, elsewhere)
    entries = b.js("return performance.getEntriesByType('resource').map((one) => one.name)")
    check("and the page's own record says the same", entries and all(one.startswith((w.daemon.base, "blob:", "data:")) for one in entries), entries)
    check("no request has the token in its address", not [url for _, url in b.requests if "token=" in url or "code=" in urlparse(url).query])
    policy = [one for one in b.console if "Content Security Policy" in one or "violates" in one]
    check("the page keeps to its own policy", not policy, policy)
    wrong = [one for one in b.console if "Uncaught" in one or "TypeError" in one or "SyntaxError" in one]
    check("nothing failed in its script", not wrong, wrong)


STEPS = (the_token, the_overview, accept, reject, poll_pause_resume, dead_letters, disable_enable_test, an_event, patches, views, out_and_back, what_was_asked)


def what_the_browser_keeps(w):
    print("what the browser keeps", flush=True)
    tokens = {w.daemon.token()} | w.browser.bearers - {"", "wrong"}
    files = w.browser.written()
    found = [
        str(path)
        for path, data in files
        for token in tokens
        if token[:24].encode() in data or token[:24].encode("utf-16-le") in data
    ]
    check(f"none of {len(tokens)} tokens is in the {len(files)} files of its profile", len(tokens) > 1 and len(files) > 20 and not found, found)
    codes = {code.decode() for _, data in files for code in re.findall(rb"#code=([0-9a-f]{64})", data)}
    answers = {w.daemon.begins(code) for code in codes}
    check(f"the {len(codes)} codes that are in it let nobody in", answers <= {401}, answers)


def clicks():
    w = World()
    print(f"  Chromium {w.browser.version()}")
    try:
        for step in STEPS:
            print(f"{step.__name__.replace('_', ' ')}", flush=True)
            try:
                step(w)
            except GaveUp as reason:
                check(f"{step.__name__}: runs to its end", False, reason)
                w.browser.shot(f"failed-{step.__name__}")
    finally:
        w.browser.quit()
        what_the_browser_keeps(w)
        w.daemon.stop()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for part in (clicks, large.run):
        try:
            part()
        except Exception as reason:  # a missing field, an odd answer: a failed check, and the next part still runs
            check(f"{part.__name__}: runs to its end", False, f"{type(reason).__name__}: {reason}")
            if not isinstance(reason, GaveUp):
                traceback.print_exc(file=sys.stdout)
    print(f"{len(passed)} passed, {len(failed)} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
