"""5,000 bridges: how long until they are seen, what it costs to get the page, and whether it can be used."""

from harness import Browser, Daemon, Upstream, check, check_soon, wait_for

BRIDGES = 5000
PAINT_MS_MAX = 1000
PAGE_BYTES_MAX = 300_000
ROWS_MAX = 200
STEP_MS_MAX = 250
LOADS = 3

# Runs before the page's own script: when the first row was there, and in a frame.
FIRST_ROW = """
new MutationObserver((_, observer) => {
    if (!document.querySelector('#bridges tbody a')) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => { window.firstRow = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""
# Does something, and says how long it took until two frames later.
TIMED = """
const done = arguments[arguments.length - 1], began = performance.now();
const later = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
"""


def config(upstream):
    bridges = (f'[bridge.customer-{number:04}]\nitems = ".[]"\nkey = ".id"\nsource.http.url = "{upstream.url}/{number}"\n' for number in range(BRIDGES))
    # Due times are spread over the day: a few bridges are polled meanwhile, and fail.
    return '@DAEMON@\n[defaults.bridge]\nevery = "24h"\nto = ["me"]\n' + "".join(bridges) + f'[endpoint.me]\nurl = "{upstream.url}/"\n'


def run():
    print(f"{BRIDGES} bridges", flush=True)
    upstream = Upstream()
    daemon = Daemon("large", config(upstream))
    daemon.start()
    browser = Browser("profile-large")
    try:
        load(daemon, browser)
        use(browser)
        browser.axe(f"{BRIDGES} bridges")
        browser.shot("light-5000")
    finally:
        browser.quit()
        daemon.stop()


def load(daemon, browser):
    browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FIRST_ROW})
    painted, rows = [], []
    for _ in range(LOADS):
        browser.driver.get("about:blank")
        browser.driver.get(daemon.link())
        browser.sees(f"{BRIDGES:,} bridges", "h1#summary")
        painted.append(browser.js("return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"))
        rows.append(wait_for("the first rows", lambda: browser.js("return window.firstRow")))
    # Of an odd number the middle one: other work on the machine may slow one down.
    for what, times in (("first contentful paint", painted), ("the first rows are seen", rows)):
        middle = sorted(times)[LOADS // 2]
        check(f"{what} after {middle:.0f} ms (of {', '.join(f'{one:.0f}' for one in times)})", middle < PAINT_MS_MAX, times)
    browser.collect()
    own = {}
    answers = 0
    for url, size in browser.finished.values():
        if url.startswith(daemon.base) and "/api/" not in url:
            own[url.removeprefix(daemon.base).partition("#")[0]] = size
        elif url.endswith("/api/status"):
            answers = max(answers, size)
    total = sum(own.values())
    check(f"the page is {total:,} bytes in {len(own)} files (the status of {BRIDGES} bridges is {answers:,} more)", 0 < total < PAGE_BYTES_MAX, own)


def use(browser):
    def timed(script):
        return browser.driver.execute_async_script(TIMED + script + "; later();")

    drawn = browser.js("return document.querySelectorAll('#bridges tbody tr').length")
    check(f"{drawn} rows are in the page, not {BRIDGES}", 0 < drawn < ROWS_MAX, drawn)
    took = timed("const s = document.getElementById('search'); s.value = 'customer-4321'; s.dispatchEvent(new Event('input'))")
    check(f"a search takes {took:.0f} ms", took < STEP_MS_MAX, took)
    check("and finds one", browser.js("return [...document.querySelectorAll('#bridges tbody a')].map((a) => a.textContent)") == ["customer-4321"])
    took = timed("const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input'))")
    check(f"all of them again take {took:.0f} ms", took < STEP_MS_MAX, took)
    steps = [timed(f"scrollTo(0, document.documentElement.scrollHeight * {part} / 20)") for part in range(1, 21)]
    check(f"a jump of 250 rows takes at most {max(steps):.0f} ms", max(steps) < STEP_MS_MAX, steps)
    last = "return Number([...document.querySelectorAll('#bridges tbody:not(.pad) tr')].at(-1)?.getAttribute('aria-rowindex'))"
    # The head is row 1.
    check_soon("the last row is seen at the end", lambda: browser.js(last) == BRIDGES + 1)
    holes = browser.js("""
        const rows = [...document.querySelectorAll('#bridges tbody:not(.pad) tr')].map((row) => row.getBoundingClientRect());
        return [rows.filter((row, at) => at && Math.abs(row.top - rows[at - 1].bottom) > 1).length, rows.at(-1).bottom <= innerHeight];
    """)
    check("without holes between the rows", holes == [0, True], holes)
    browser.js("scrollTo(0, 0)")
