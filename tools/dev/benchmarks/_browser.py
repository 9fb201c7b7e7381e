"""Time that a browser needs to open a report."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from anomaly.errors import InputError

LONGEST = 60  # seconds to wait for a page


def open_page(page: Path, repeats: int) -> tuple[int, list[float]]:
    """Number of frames in a report, and seconds until the first one is usable, in a fresh browser each time."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        raise InputError("expected chromium and chromedriver, found one or neither; install them (Debian has packages)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.page_load_strategy = "none"
    shown, seconds = 0, []
    for _ in range(repeats):
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            start = time.perf_counter()
            browser.get(page.as_uri())
            while browser.execute_script("return document.documentElement.dataset.ready") != "yes":
                if time.perf_counter() - start > LONGEST:
                    raise InputError(
                        f"{page}: expected a page that opens, found none after {LONGEST} s; open it by hand"
                    )
                time.sleep(0.01)
            seconds.append(time.perf_counter() - start)
            shown = len(browser.find_elements("css selector", "#cards .card"))
        finally:
            browser.quit()
    return shown, seconds
