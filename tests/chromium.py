"""The browser that tests and pictures look with."""

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright


def launch(playwright: "Playwright") -> "Browser":
    """The Chromium of this machine, without a window; close it."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert chromium is not None, "this needs Chromium: apt-get install chromium"
    # Containers have no sandbox for a browser of root.
    return playwright.chromium.launch(
        executable_path=chromium,
        args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    )
