"""Takes the pictures of the Prefect UI in this folder: `python docs/pictures/take.py PREFECT_URL`, while a canary is under way.

Needs Debian's packages chromium and chromium-driver, which it drives over plain HTTP (https://www.w3.org/TR/webdriver2/).
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
DRIVER = "http://127.0.0.1:9517"
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1500,1000"]
CANARY_SECONDS = 900.0
PAGE_SECONDS = 40.0


class Browser:
    """One session of chromedriver."""

    def __init__(self) -> None:
        self.client = httpx.Client(base_url=DRIVER, timeout=60, trust_env=False)
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {"args": OPTIONS}}}}
        self.session = "/session/" + self.client.post("/session", json=wanted).raise_for_status().json()["value"]["sessionId"]

    def open(self, url: str, until: str) -> None:
        """Open a page and wait until its text holds a word."""
        self.client.post(f"{self.session}/url", json={"url": url}).raise_for_status()
        self.wait(until)

    def wait(self, until: str) -> None:
        """Wait until the page's text holds a word."""
        deadline = time.monotonic() + PAGE_SECONDS
        while until.lower() not in str(self.run("return document.body.innerText")).lower():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page never said {until!r}")
            time.sleep(0.2)
        # Prefect's pages fade in
        time.sleep(1.5)

    def click(self, text: str) -> None:
        """Click the tab of a name."""
        self.run("[...document.querySelectorAll('.p-tab, [role=tab]')].find(tab => tab.innerText.trim() == arguments[0]).click()", text)

    def run(self, script: str, *arguments: str) -> Any:
        """Run a script in the page and return its value."""
        body = {"script": script, "args": list(arguments)}
        return self.client.post(f"{self.session}/execute/sync", json=body).raise_for_status().json()["value"]

    def picture(self, name: str) -> None:
        """Keep what is seen."""
        found = self.client.get(f"{self.session}/screenshot").raise_for_status().json()["value"]
        (HERE / f"{name}.png").write_bytes(base64.b64decode(found))


@contextmanager
def browser() -> Iterator[Browser]:
    """Give a browser, and end it."""
    process = subprocess.Popen(("chromedriver", "--port=9517"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PAGE_SECONDS
        while True:
            try:
                httpx.get(f"{DRIVER}/status", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        opened = Browser()
        yield opened
        opened.client.delete(opened.session)
    finally:
        process.terminate()
        process.wait(10)


def ask(prefect: str, path: str, query: dict[str, Any]) -> Any:
    """Ask Prefect's API."""
    return httpx.post(f"{prefect}/api{path}", json=query, timeout=10, trust_env=False).raise_for_status().json()


def canary(prefect: str) -> dict[str, Any]:
    """Wait for a canary that has been looked at for some time, and return its artifact."""
    deadline = time.monotonic() + CANARY_SECONDS
    while time.monotonic() < deadline:
        try:
            found = ask(prefect, "/artifacts/filter", {"sort": "ID_DESC", "limit": 20})
        except httpx.HTTPError:
            found = []
        for each in found:
            if (each["key"] or "").endswith("-canary") and "50 % asked for" in (each["description"] or ""):
                return dict(each)
        time.sleep(0.5)
    raise TimeoutError("no canary was seen")


def main(prefect: str) -> None:
    """Take the pictures."""
    with browser() as seen:
        artifact = canary(prefect)
        run = f"{prefect}/runs/flow-run/{artifact['flow_run_id']}"
        seen.open(f"{prefect}/artifacts/artifact/{artifact['id']}", "evidence of harm")
        seen.picture("canary")
        seen.open(run, "Artifacts")
        seen.click("Artifacts")
        seen.wait("canary")
        seen.picture("release-artifacts")
        seen.open(f"{prefect}/deployments", "reconcile")
        seen.picture("deployments")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
