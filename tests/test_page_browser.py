"""The page in a browser: it opens without complaint, and its filters, axes, table, hints and keys do what they say."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.page.document import Chart, Page, Section, columns_of
from analysis.page.estimated import report_page
from analysis.page.html import to_html
from hwmodels.device import device
from simulator.estimate import estimate
from simulator.graph import Graph

webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium to drive a browser with")
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with chromedriver to open a page in")

DRAWN = """
const charts = [...document.querySelectorAll("section [data-chart]")];
return charts.length > 0 && charts.every((chart) => chart.querySelector("svg")?.childElementCount > 0);
"""
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,1200",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER, env={**os.environ, "SE_OFFLINE": "true"}))
    yield driver
    driver.quit()


def points() -> Page:
    """Nine points of three networks. That of c at 1 s is infeasible; a at 2 s is the next, and smallest."""
    rows = [
        {
            "network": name,
            "note": HOSTILE if name == "a" else "",
            "latency_s": 10.0**power * slow,
            "peak_bytes": size,
            "feasible": (name, power) != ("c", 0),
        }
        for name, slow, size in (("a", 2.0, 100), ("b", 3.0, 4000), ("c", 1.0, 2000))
        for power in range(3)
    ]
    chart = Chart("scatter", "latency_s", "peak_bytes", "network", log=True)
    section = Section("Points", columns_of(rows), (chart,), sort="latency_s", front=True)
    return Page(HOSTILE, (section,), ((HOSTILE, HOSTILE),), (HOSTILE,))


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    """Opens a page and returns the browser."""

    def open_(page: Page) -> Any:
        path = tmp_path / "page.html"
        path.write_text(to_html(page), encoding="utf-8")
        browser.get(path.as_uri())
        wait(browser, DRAWN)
        return browser

    return open_


def wait(browser: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda b: b.execute_script(condition))


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def texts(browser: Any, column: str) -> list[str]:
    """What stands in a column of the first table."""
    found: list[str] = browser.execute_script(
        "const grid = document.querySelector('.grid');"
        "const place = [...grid.querySelectorAll('thead th')].findIndex((th) => th.dataset.column === arguments[0]);"
        "return [...grid.querySelectorAll('tbody tr')].map((row) => row.children[place].textContent);",
        column,
    )
    return found


def drawn(browser: Any) -> int:
    return int(find(browser, "[data-chart=scatter]").get_attribute("data-points"))


def choose(browser: Any, label: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("xpath", f"//label[span='{label}']/select")).select_by_value(value)


def test_a_page_opens_without_complaint_and_texts_stay_texts(opened: Any) -> None:
    browser = opened(points())
    assert browser.get_log("browser") == []
    assert browser.title == HOSTILE
    assert find(browser, "h1").text == HOSTILE
    assert browser.find_elements("css selector", "img") == []
    assert drawn(browser) == 9
    assert HOSTILE in texts(browser, "note")


def test_every_kind_of_chart_of_an_estimate_opens_without_complaint(opened: Any, step: Graph) -> None:
    browser = opened(report_page([estimate(step, device("jetson-nano"))]))
    section = find(browser, "section")
    for tab, chart in zip(
        section.find_elements("css selector", "[role=tab]"), ("bars", "area", "scatter"), strict=True
    ):
        tab.click()
        assert tab.get_attribute("aria-selected") == "true"
        wait(
            browser,
            f"return document.querySelector('section [data-chart={chart}]').querySelector('svg').childElementCount > 0",
        )
    assert browser.get_log("browser") == []


def test_a_filter_takes_points_and_rows_away_and_gives_them_back(opened: Any) -> None:
    browser = opened(points())
    box = find(browser, "details[data-column=network] input[data-value=b]")
    box.click()
    assert drawn(browser) == len(texts(browser, "network")) == 6
    assert set(texts(browser, "network")) == {"a", "c"}
    box.click()
    assert drawn(browser) == len(texts(browser, "network")) == 9


def test_ranges_and_search_filter_too(opened: Any) -> None:
    browser = opened(points())
    find(browser, "details.ranges summary").click()
    find(browser, ".range[data-column=latency_s] input").send_keys("50")
    assert drawn(browser) == 3
    find(browser, "input[type=search]").send_keys("onerror")
    assert drawn(browser) == 1
    assert texts(browser, "network") == ["a"]


def test_a_click_on_a_head_sorts_and_another_turns_it_round(opened: Any) -> None:
    browser = opened(points())
    head = "th[data-column=peak_bytes]"
    find(browser, f"{head} button").click()
    assert texts(browser, "peak_bytes") == ["100 B"] * 3 + ["2 kB"] * 3 + ["4 kB"] * 3
    assert find(browser, head).get_attribute("aria-sort") == "ascending"
    find(browser, f"{head} button").click()
    assert texts(browser, "peak_bytes")[0] == "4 kB"
    find(browser, "th[data-column=network] button").click()
    assert texts(browser, "network") == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def test_axes_change_and_the_front_with_them(opened: Any) -> None:
    browser = opened(points())
    assert "1 on the front" in find(browser, ".said").text
    assert find(browser, "svg.layer .name").text == "latency"
    choose(browser, "across", "peak_bytes")
    choose(browser, "up", "latency_s")
    assert [e.text for e in browser.find_elements("css selector", "svg.layer .name")] == ["peak memory", "latency"]
    before = find(browser, "svg.layer").get_attribute("innerHTML")
    find(browser, "input[data-log=x]").click()
    assert find(browser, "svg.layer").get_attribute("innerHTML") != before
    choose(browser, "colour", "peak_bytes")
    assert "4 kB" in find(browser, ".legend").text


def test_the_pointer_shows_a_point_and_a_click_pins_it(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser = opened(points())
    stage, ring = find(browser, "[data-chart=scatter]"), find(browser, "svg.layer .best")
    box = stage.rect
    x = float(ring.get_attribute("cx")) - box["width"] / 2
    y = float(ring.get_attribute("cy")) - box["height"] / 2
    ActionChains(browser).move_to_element_with_offset(stage, round(x), round(y)).perform()
    tip = find(browser, "#tip").text
    assert "latency 2 s" in tip
    assert "peak memory 100 B" in tip
    assert HOSTILE in tip
    ActionChains(browser).click().perform()
    assert "2 s" in find(browser, ".pins").text
    assert len(browser.find_elements("css selector", "svg.layer .pin")) == 1
    assert len(browser.find_elements("css selector", "tbody tr.pinned")) == 1


def test_the_keys_walk_through_the_points_and_pin_them(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = opened(points())
    stage = find(browser, "[data-chart=scatter]")
    stage.send_keys(Keys.ARROW_RIGHT)
    assert "latency 1 s" in find(browser, "#tip").text
    stage.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    assert "2 s" in find(browser, ".pins").text
    find(browser, ".pins button").click()
    assert not find(browser, ".pins").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_is_wider_than_the_window_and_the_paper_follows_the_scheme(
    opened: Any, scheme: str, width: int
) -> None:
    browser = opened(points())
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
