"""Opens files in the headless Chromium of the system, and says what the page did.

Debian: chromium chromium-driver. On a machine without them the tests that use it are skipped.
"""

import json
import shutil
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from system_programs import clean_environment, require_programs

_SIZE = (1280, 900)


@contextmanager
def chromium(folder, *, size=_SIZE, scale=1.0, touch=False, dark=False):
    """Start a browser whose home is a folder of the test; yields Selenium's driver.

    Args:
        folder: Where it keeps what it must keep.
        size: Width and height of the page in CSS pixels.
        scale: Pixels of the screen for each of them.
        touch: Whether it is a phone.
        dark: Whether the reader prefers dark pages.
    """
    require_programs("chromium", "chromedriver", package="chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--no-first-run", "--hide-scrollbars",
                     f"--window-size={size[0]},{size[1]}"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    environment = clean_environment(folder)
    service = Service(shutil.which("chromedriver"), env=environment)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        device = {"width": size[0], "height": size[1], "deviceScaleFactor": scale, "mobile": touch}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
        if touch:
            driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        if dark:
            feature = {"name": "prefers-color-scheme", "value": "dark"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        yield driver
    finally:
        driver.quit()


def open_page(driver, path):
    """Open a file, and wait until its map is ready."""
    driver.get(path.resolve().as_uri())
    driver.set_script_timeout(30)
    driver.execute_async_script(
        "const done = arguments[0];"
        "const look = () => performance.getEntriesByName('map-ready').length"
        " ? done() : setTimeout(look, 20); look();"
    )


def requests_of(driver):
    """Return the addresses that pages asked for since the last call, without data inside them."""
    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    return [address for address in found if not address.startswith("data:")]


def complaints_of(driver):
    """Return what stands in the console: errors, warnings, what the page's policy forbade."""
    return [entry["message"] for entry in driver.get_log("browser")]


def screenshot(driver, path, *, whole=False):
    """Save a picture of what is seen, or of the whole page."""
    if not whole:
        driver.save_screenshot(str(path))
        return path
    import base64

    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(taken["data"]))
    return path


def print_page(driver, path):
    """Save a page as it is printed, as PDF."""
    import base64

    printed = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True,
                                                         "preferCSSPageSize": True})  # fmt: skip
    path.write_bytes(base64.b64decode(printed["data"]))
    return path
