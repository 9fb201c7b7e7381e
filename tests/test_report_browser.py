"""The report in a browser: what people do with it, and that harmful names do nothing.

Oracles are numpy on the files that the runs kept, read without the code under test.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from anomaly.report.html import write_page
from tests.report_runs import CLASSES, FRAMES, HOSTILE, SET, stored_curves, stored_view, write_run, write_split

MASK = {"tp": (240, 228, 66), "fp": (213, 94, 0), "fn": (0, 114, 178), "ignored": (128, 128, 128)}
METHODS = (("A", "gmm_nll"), ("A", "energy"), ("B", "msp"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two runs on one set: their results.json by letter."""
    folder = tmp_path_factory.mktemp("report")
    split = write_split(folder / "data")
    return {
        "A": write_run(folder / "a", split, seed=1, generative=True, name="generative"),
        "B": write_run(folder / "b", split, seed=2, generative=False, name=HOSTILE),
    }


@pytest.fixture(scope="module")
def browser():
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium and chromedriver; Debian has them as packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def wait(browser, script):
    """Wait until a script's value is true, and give it."""
    end = time.monotonic() + 10
    while not (value := browser.execute_script(f"return {script}")) and time.monotonic() < end:
        time.sleep(0.02)
    assert value, f"{script} never came true"
    return value


@pytest.fixture
def page(results, browser, tmp_path):
    """The page of both runs, open at its first frame."""
    out = tmp_path / f"{HOSTILE[:8]}report.html"
    write_page(list(results.values()), out)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(out.as_uri())
    wait(browser, "document.documentElement.dataset.ready === 'yes'")
    return browser


def text(page, selector):
    return page.execute_script("return document.querySelector(arguments[0]).textContent", selector)


def frame_name(page):
    return text(page, "#name")


def go(page, name):
    """Open a frame by its place in the set."""
    page.execute_script("location.hash = arguments[0]", f"#s0f{FRAMES.index(name)}")
    wait(page, f"document.getElementById('name').textContent === {json.dumps(name)}")
    time.sleep(0.2)


def slide(page, position):
    script = "const s = document.getElementById('slider'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    page.execute_script(script, position)
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))")


def rows(page):
    """The table of thresholds: texts, and counts."""
    script = """return [...document.querySelectorAll('#thresholds tbody tr')].map(
        (row) => [[...row.cells].map((cell) => cell.textContent), {...row.dataset}])"""
    return page.execute_script(script)


def shown_mask(page, number):
    """What the colours of a mask mean, pixel by pixel; empty where there is none."""
    script = "return document.querySelectorAll('figure[data-kind=mask] canvas')[arguments[0]].toDataURL()"
    data = base64.b64decode(page.execute_script(script, number).partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(int)
    distance = [np.abs(pixels[..., :3] - colour).sum(-1) for colour in MASK.values()]
    return np.where(pixels[..., 3] > 0, np.array(list(MASK))[np.argmin(distance, 0)], "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "large", "without anomaly"])
def test_the_slider_moves_masks_and_numbers_which_are_numpys(page, results, name):
    go(page, name)
    index, seen = FRAMES.index(name), set()
    for position in (40, 120, 170):
        slide(page, position)
        target = 10 ** (-4 + 4 * position / 200)
        for number, (letter, score) in enumerate(METHODS):
            curves, view = stored_curves(results[letter])[score], stored_view(results[letter], index)
            fpr = np.array(curves["level_fpr"] + [0.0])
            level = int(np.argmax(fpr <= target))
            codes = view["codes"][list(stored_curves(results[letter])).index(score)]
            called, label = codes > level, view["label"]
            tp, fp, fn = (int(x.sum()) for x in (called & (label == 1), called & (label == 0), ~called & (label == 1)))
            cells, counts = rows(page)[number]
            assert [int(counts[key]) for key in ("tp", "fp", "fn", "level")] == [tp, fp, fn, level]
            assert cells[0] == f"{letter} {score}"
            for cell, part, whole in ((cells[4], tp, tp + fp), (cells[5], tp, tp + fn)):
                if whole:
                    assert float(cell.removesuffix(" %")) == pytest.approx(100 * part / whole, rel=6e-3, abs=0.06)
                else:
                    assert cell == "nan"
            if level < len(curves["levels"]):
                assert float(cells[1].removeprefix("≥ ")) == pytest.approx(curves["levels"][level], rel=1e-5)
            expected = np.select(
                [label == 255, called & (label == 1), called, label == 1], ["ignored", "tp", "fp", "fn"], ""
            )
            assert (shown_mask(page, number) == expected).all()
            seen.add((tp, fp))
    assert len(seen) > 3


def test_the_inspector_shows_what_is_stored(page, results):
    go(page, "large")
    figure = "document.querySelectorAll('figure[data-kind=heat] .stack')[1]"
    script = f"""const box = {figure}.getBoundingClientRect();
        {figure}.dispatchEvent(new MouseEvent('click', {{bubbles: true,
        clientX: box.left + arguments[0] * box.width, clientY: box.top + arguments[1] * box.height}}))"""
    page.execute_script(script, 0.62, 0.37)
    wait(page, "document.querySelectorAll('#inspector table').length === 3")
    views = {letter: stored_view(path, FRAMES.index("large")) for letter, path in results.items()}
    rows_, columns = views["A"]["points"].shape[1:]
    row, column = int(0.37 * rows_), int(0.62 * columns)
    tables = page.execute_script(
        """return [...document.querySelectorAll('#inspector table')].map(
        (table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent)))"""
    )
    values = [
        views["A"]["points"][0, row, column],
        views["A"]["points"][1, row, column],
        views["B"]["points"][0, row, column],
    ]
    assert [float(line[1]) for line in tables[0]] == pytest.approx([float(value) for value in values], rel=1e-6)
    for lines, view in zip(tables[1:], views.values(), strict=True):
        assert [line[0] for line in lines] == [CLASSES[i] for i in view["classes"][:, row, column]]
        assert [float(line[1]) for line in lines] == pytest.approx(view["values"][:, row, column].tolist(), rel=1e-6)
    heads = page.execute_script(
        "return [...document.querySelectorAll('#inspector th')].map((cell) => cell.textContent)"
    )
    assert "log-likelihood" in heads
    assert "log-softmax" in heads
    height, width = views["A"]["label"].shape
    y, x = int((row + 0.5) * height / rows_), int((column + 0.5) * width / columns)
    assert f"Pixel {int((x + 0.5) * 880 / width)}, {int((y + 0.5) * 400 / height)} of 880 x 400" in text(
        page, "#inspector h3"
    )


@pytest.mark.slow
def test_keys_search_and_order(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    names = "return [...document.querySelectorAll('#cards b')].map((one) => one.textContent)"
    ordered = page.execute_script(names)
    assert sorted(ordered) == sorted(FRAMES)
    assert frame_name(page) == ordered[0]
    assert ordered[-1] == "without anomaly"  # it has no AP
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_RIGHT)
    assert frame_name(page) == ordered[1]
    body.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert frame_name(page) == ordered[-1]
    search = page.find_element(By.ID, "search")
    search.send_keys("PLA", Keys.ARROW_RIGHT)
    assert page.execute_script(names) == ["plain"]
    assert text(page, "#count") == f"1 of {len(FRAMES)} images"
    assert frame_name(page) == ordered[-1]  # arrows belong to the text while it is edited
    search.send_keys(Keys.ENTER)
    assert frame_name(page) == "plain"
    page.execute_script(
        "const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input'))"
    )
    order = "const o = document.getElementById('order'); o.value = arguments[0]; o.dispatchEvent(new Event('change'))"
    page.execute_script(order, "best")
    best = page.execute_script(names)
    assert best[:-1] == ordered[-2::-1]
    page.execute_script(order, "set")
    assert page.execute_script(names) == list(FRAMES)


def test_a_point_of_the_chart_leads_to_its_frame(page):
    links = page.execute_script("return [...document.querySelectorAll('svg a')].map((one) => one.getAttribute('href'))")
    assert len(links) == len(METHODS) * (len(FRAMES) - 1)
    page.execute_script(
        "document.querySelector('svg a[href=\"#s0f4\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    wait(page, "document.getElementById('name').textContent === 'large'")


def test_light_and_dark(page):
    background = "getComputedStyle(document.body).backgroundColor"
    assert wait(page, background) == "rgb(255, 255, 255)"
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert wait(page, background) == "rgb(20, 22, 26)"
    page.execute_script("document.getElementById('theme').click()")
    assert text(page, "#theme") == "Theme: light"
    assert wait(page, background) == "rgb(255, 255, 255)"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.execute_script("document.getElementById('theme').click()")
    assert wait(page, background) == "rgb(20, 22, 26)"
    page.execute_script("document.getElementById('theme').click()")


def test_a_phone_needs_no_sideways_scrolling(page):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    assert page.execute_script("return innerWidth") == 390
    assert page.execute_script("return document.documentElement.scrollWidth") == 390


def test_print_shows_every_frame_though_none_was_scrolled_to(page):
    drawn = "[...document.querySelectorAll('#cards canvas')].filter((one) => one.width !== 300).length"
    wait(page, f"document.querySelectorAll('#cards img[src]').length === {len(FRAMES)}")
    assert page.execute_script(f"return {drawn}") == 0  # a canvas is 300 wide until it is drawn on
    time.sleep(0.2)  # the last one's scores are loaded after its image
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script(f"return {drawn}") == len(FRAMES)


def test_every_picture_has_a_text(page):
    page.execute_script("scrollTo(0, document.body.scrollHeight)")
    wait(page, "document.querySelector('#cards img').src !== ''")
    bare = """return [...document.querySelectorAll('img, canvas, svg:not([aria-hidden])')].filter((one) =>
        one.tagName === 'IMG' ? !one.hasAttribute('alt') : !one.getAttribute('aria-label')).length"""
    assert page.execute_script(bare) == 0
    assert page.execute_script("return document.querySelectorAll('canvas').length") > len(FRAMES)
    assert page.execute_script("return document.querySelector('figure[data-kind=photo] img').alt").startswith("Image ")


@pytest.mark.slow
def test_harmful_names_do_nothing_and_nothing_is_asked_of_the_network(page):
    for name in FRAMES:
        go(page, name)
        assert frame_name(page) == name
    page.execute_script("document.querySelector('figure .stack').click(); scrollTo(0, 1e6)")
    time.sleep(0.3)
    shown = page.execute_script("return document.body.innerText")
    assert HOSTILE in shown
    assert "{{ 7 * 7 }}" in shown
    assert SET in shown
    assert (
        page.execute_script("return document.querySelectorAll('img[src=x], svg[onload], [onerror], b > script').length")
        == 0
    )
    assert page.execute_script("return typeof hacked") == "undefined"
    assert (
        page.execute_script("return document.scripts.length")
        == len(page.execute_script("return [...document.scripts].filter((s) => /^b\\d+$|^manifest$/.test(s.id))")) + 2
    )
    entries = page.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert all(entry.startswith(("blob:", "data:")) for entry in entries)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    assert page.get_log("browser") == []
