"""The Prefect UI as an operator uses it, in a real browser: the form, the run, what it shows."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tasks.report.drawing import DENSITY, WIDTH_PX
from tests.flows.desk import Desk

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]  # the first waits for Cassandra, server and worker

PATIENCE_MS = 150_000
"""A worker looks for runs every few seconds, and a run's process takes some seconds to start."""

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        message = "no chromium here: apt-get install chromium"
        if os.environ.get("OVERLANDER_TESTS_SKIP_NOTHING"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def browser_page(chromium: str, deployed: Desk) -> Iterator[Page]:
    """Return a page of a browser; beside it, Prefect's client cannot be used: this thread has its event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page
        browser.close()


@pytest.fixture
def form(browser_page: Page, prefect_api: str) -> Page:
    """Return the page with the form of the tile campaign's deployment."""
    found = httpx.get(f"{prefect_api}/deployments/name/tile-campaign/tile-campaign", trust_env=False).json()
    root = prefect_api.removesuffix("/api")
    browser_page.goto(f"{root}/v2/deployments/deployment/{found['id']}/run")
    # Its values come last, and would overwrite what is typed before.
    expect(browser_page.get_by_role("spinbutton").first).to_have_value("100")
    return browser_page


def submit(form: Page) -> None:
    """Fill the form in and start a run; values of the deployment that come late may overwrite what was typed."""
    for attempts_left in reversed(range(5)):
        form.get_by_label("tile", exact=True).fill("H05V03")
        form.get_by_label("window (Optional)").fill("0:4,0:4")
        form.get_by_role("button", name="Submit").click()
        try:  # back at the deployment
            form.wait_for_url(re.compile(r"/deployments/deployment/[^/]+$"), timeout=PATIENCE_MS / 5)
        except PlaywrightTimeout:
            if not attempts_left:
                raise
        else:
            return


def test_the_form_says_what_each_parameter_means(form: Page) -> None:
    expect(form.get_by_text("The tile, as H05V03, 005003 or its upper left corner in metres")).to_be_visible()
    expect(form.get_by_text("Send at most so many requests. Empty sends what is needed.")).to_be_visible()


def test_the_form_refuses_what_is_no_tile_and_says_so_beside_the_field(form: Page) -> None:
    form.get_by_label("tile", exact=True).fill("somewhere")
    form.get_by_role("button", name="Submit").click()

    expect(form.get_by_text(re.compile("'somewhere' does not match")).first).to_be_visible()
    assert form.url.endswith("/run"), "no run was started"


def test_a_run_is_started_from_the_form_and_its_artifacts_are_read(form: Page, deployed: Desk) -> None:
    submit(form)
    api = form.url.split("/v2/")[0] + "/api"
    run = httpx.post(
        f"{api}/flow_runs/filter", json={"limit": 1, "sort": "EXPECTED_START_TIME_DESC"}, trust_env=False
    )
    form.goto(f"{form.url.split('/deployments/')[0]}/runs/flow-run/{run.json()[0]['id']}")
    expect(form.get_by_text("Waiting", exact=True).first).to_be_visible()
    form.get_by_role("tab", name="Artifacts").click()
    form.get_by_role("link", name=re.compile("where it stands")).click()
    form.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()
    expect(form.get_by_role("heading", name="What to do next")).to_be_visible()
    picture = form.get_by_role("img", name="Map of H05V03")
    expect(picture).to_be_visible()
    assert picture.evaluate("picture => picture.naturalWidth") == DENSITY * WIDTH_PX
    assert picture.evaluate("picture => picture.clientWidth") >= WIDTH_PX, "its words are too small"
    assert list(Path(deployed.out).rglob("H05V03_*.json"))
