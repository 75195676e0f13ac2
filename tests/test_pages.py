"""The built book in a browser: every page in both themes at three widths, with no network, and each fault planted once.

It needs docs/_build, selenium, and Debian's chromium and chromium-driver.  tests/test_pages.js has what is looked at.
"""
import functools
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

BUILT = Path(__file__).parents[1] / "docs" / "_build"
INSPECT = Path(__file__).with_suffix(".js")
PAGES = sorted(BUILT.rglob("*.html"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
WIDTHS = (1400, 1100, 390)      # pixels
THEMES = ("light", "dark")
LOCAL = ("file", "data", "blob", "chrome", "chrome-untrusted")      # the browser's own first page is the last two
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")

pytestmark = pytest.mark.skipif(not PAGES, reason="docs/_build does not exist: run sphinx-build docs docs/_build")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install --group browser")
    if not (CHROMIUM and DRIVER):
        pytest.skip("there is no chromium with a chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


def open_page(browser, url):
    """Load a page.  The logs hold only what it does."""
    for log in ("performance", "browser"):
        browser.get_log(log)                    # of the page before
    browser.get(url)


def read_logs(browser):
    """What the logs hold against the page: requests that are not for a file, and errors of the console."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [message["params"]["request"]["url"] for message in messages
            if message["method"] == "Network.requestWillBeSent"]
    return [f"request: {url}" for url in urls if urlsplit(url).scheme not in LOCAL] + [
        f"console: {entry['message']}" for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def show(browser, width, theme):
    """Make the window so wide, and the reader one that prefers this theme."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": theme}]})


def inspect(browser, page):
    """Everything that is wrong with a page in both themes at all widths, each once."""
    script, found = INSPECT.read_text(encoding="utf-8"), {}
    open_page(browser, page.as_uri())
    for theme in THEMES:
        for width in WIDTHS:
            show(browser, width, theme)
            for problem in browser.execute_async_script(script):
                found.setdefault(problem, f"{problem} ({theme}, {width} px)")
    return [*found.values(), *read_logs(browser)]


class Links(HTMLParser):
    """The targets of a page's links, and the ids that a link may name."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag == "a" and attributes.get("href") is not None:
            self.targets.append(attributes["href"])


def find_broken_links(page, read=Links):
    """Links to a file or an id that does not exist, and addresses of other places that cannot be one."""
    found = []
    for target in read(page).targets:
        url = urlsplit(target)
        if url.scheme:
            if url.scheme not in ("http", "https", "mailto") or (url.scheme != "mailto" and "." not in url.netloc):
                found.append(f"link: {target} is not an address")
            continue
        file = (page.parent / unquote(url.path)).resolve() if url.path else page
        anchor = unquote(url.fragment)
        if not file.is_file():
            found.append(f"link: {target} does not exist")
        elif anchor and file.suffix == ".html" and anchor not in read(file).ids:
            found.append(f"link: {target} has no such anchor")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(BUILT).with_suffix("").as_posix())
def test_a_page(page, browser):
    assert not inspect(browser, page)


def test_links():
    read = functools.cache(Links)
    found = [(page.relative_to(BUILT).as_posix(), problem) for page in PAGES
             for problem in find_broken_links(page, read)]
    assert not found


@pytest.mark.parametrize(("query", "page"), [
    ("softmax", ""), ("tinyscout check", "command"), ("rms_norm", "norm"), ("RoPE", "rope"), ("install", "overview")])
def test_search_from_a_file(query, page, browser):
    """The first of the results is the page to read, and an excerpt of it has the words."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
    open_page(browser, (BUILT / "search.html").as_uri() + "?q=" + query.replace(" ", "+"))
    first = WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li"))[0]
    excerpt = WebDriverWait(first, 20).until(lambda li: li.find_elements(By.CSS_SELECTOR, "p.context"))[0]
    assert excerpt.text
    assert all(word in first.text.lower() for word in query.lower().split()), first.text
    assert f"{page}.html" in first.find_element(By.TAG_NAME, "a").get_attribute("href")
    assert not read_logs(browser)


SOUND = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title><style>
body { background: #fff; color: #222 } pre { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee } .dim { color: #888 } }</style>
<body><article id="top"><p>Text and <a href="#top" style="color: inherit">a link</a>.</p>%s</article></body></html>"""
FAULTS = {
    "": ("", ""),
    "request": ("request: http", '<script src="http://127.0.0.1:9/x.js"></script>'),
    "console": ("console: ", "<script>missing()</script>"),
    "overflow": ("overflow: ", '<div style="width: 500px">wide on a phone</div>'),
    "focus": ("focus: ", f"<pre tabindex=-1>{'wide ' * 400}</pre>"),
    "image": ("image: gone.png is not shown", '<img src="gone.png" alt="gone">'),
    "alt": ("image: data:,", '<img src="data:,">'),
    "name": ("link: #top has no name", '<a href="#top"><span></span></a>'),
    "contrast": ("contrast: ", '<p style="color: #777">pale</p>'),
    "contrast in the dark": ("contrast: ", '<p class="dim">dim</p>'),
    "contrast of an answer": ("contrast: ", '<details><p style="color: #777">pale</p></details>'),
    "contrast in a drawing": ("contrast: ", '<svg viewBox="0 0 99 20"><rect width="99" height="20" fill="#555"/>'
                              '<text x="9" y="15" fill="#222">dark</text></svg>'),
    "file": ("link: gone.html does not exist", '<a href="gone.html" style="color: inherit">gone</a>'),
    "anchor": ("link: #gone has no such anchor", '<a href="#gone" style="color: inherit">gone</a>'),
    "address": ("link: https:/x is not an address", '<a href="https:/x" style="color: inherit">away</a>'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault, browser, tmp_path):
    page, (message, html) = tmp_path / "page.html", FAULTS[fault]
    page.write_text(SOUND % html, encoding="utf-8")
    found = [*inspect(browser, page), *find_broken_links(page)]
    assert bool(found) == bool(fault)
    assert not fault or any(problem.startswith(message) for problem in found), found


def test_the_font_has_every_character_of_an_equation(monkeypatch):
    fonts = BUILT.parent / "_static" / "fonts"
    pytest.importorskip("brotli")
    monkeypatch.syspath_prepend(str(fonts))
    subset = pytest.importorskip("subset", reason="fonttools is not installed")
    from fontTools.ttLib import TTFont
    characters = set(map(chr, TTFont(subset.OUT).getBestCmap()))
    missing = {character for character in subset.read_characters(BUILT) - characters if not character.isspace()}
    assert not missing, f"run docs/_static/fonts/subset.py: it lacks {sorted(missing)}"
