"""Headless Chromium, driven over WebDriver: pages as people see them."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SIZES = ((1280, 900), (390, 844))
ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "console"
PATIENCE = 20.0  # seconds; the machine may be busy


def absent() -> str:
    """Why there is no browser to drive, or nothing."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed (Debian: chromium chromium-driver)" if missing else ""


class Browser:
    """One window. Whatever it complains of (a blocked script, a failed request) is in `complaints`."""

    scheme = "light"

    def __init__(self, *, dark: bool = False) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
        self.driver.set_page_load_timeout(60)
        self.resize(*SIZES[0])
        if dark:
            media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def close(self) -> None:
        self.driver.quit()

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, url: str) -> None:
        self.driver.get(url)

    def sign_in(self, link: str) -> None:
        """By the link that `hopgate console login` prints."""
        self.open(link)
        self.click("button[type=submit]")
        self.find(".whoami")

    def find(self, selector: str, text: str = "") -> WebElement:
        """The first element that is shown, with `text` in it, waiting for it."""

        def look(driver: Any) -> WebElement | None:
            for each in driver.find_elements("css selector", selector):
                if each.is_displayed() and text in each.text:
                    return each  # type: ignore[no-any-return]
            return None

        return self.wait(look, f"{selector} with {text!r}")

    def gone(self, selector: str, text: str = "") -> None:
        self.wait(lambda driver: not any(text in each.text for each in driver.find_elements("css selector", selector)), f"no {selector}")

    def wait[T](self, look: Callable[[Any], T | None], what: str) -> T:
        waiting = WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=(StaleElementReferenceException,))
        try:
            found = waiting.until(look)
        except WebDriverException:
            page = self.driver.find_element("tag name", "body").text
            raise AssertionError(f"{what} did not come; the page says:\n{page[:3000]}\n{self.complaints}") from None
        assert found is not None
        return found

    def click(self, selector: str, text: str = "") -> None:
        self.find(selector, text).click()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    @property
    def complaints(self) -> list[str]:
        """What the browser's console says. A status that we ourselves answered is no complaint."""
        return [
            entry["message"] for entry in self.driver.get_log("browser") if "the server responded with a status of" not in entry["message"]
        ]

    def screenshot(self, name: str) -> Path:
        """The whole page, as a PNG among the artifacts."""
        width, shown, height = self.run("return [innerWidth, innerHeight, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(max(shown, height), 4000), "scale": 1}
        data = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        path.write_bytes(base64.b64decode(data["data"]))
        return path
