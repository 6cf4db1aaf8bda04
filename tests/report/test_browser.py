"""The page in a real browser: no complaints, the right picture under the pointer.

Needs Debian's chromium and chromium-driver (or others on the PATH) and selenium.
JAXCLUST_SCREENSHOTS=FOLDER keeps pictures of the page to look at.
"""

import base64
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxclust.report.text import shown
from jaxclust.runs.finished import read_finished
from tests.report.conftest import N


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt install chromium chromium-driver")
    selenium = pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    del selenium
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = program
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def look(browser, page, width=1200, height=1000, dark=False):
    """Open the page on a screen of this size and theme."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    browser.get(page.as_uri())


@pytest.fixture(scope="module")
def page(finished):
    return finished / "report.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_opens_without_complaint_and_fits_the_screen(browser, page, width, dark):
    look(browser, page, width, 900, dark)
    assert browser.get_log("browser") == []
    wide = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 200) == dark
    if folder := os.environ.get("JAXCLUST_SCREENSHOTS"):
        shot = Path(folder) / f"page-{width}-{'dark' if dark else 'light'}.png"
        browser.save_screenshot(str(shot))


def hover(browser, row):
    """Point at an image on the map; which one is shown, and its picture uint8 [h, w, 4]."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    canvas = browser.find_element(By.ID, "points")
    x, y, width, height = browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'});"
        "const box = arguments[0].getBoundingClientRect();"
        "return [...jaxclustMap.at(arguments[1]), box.width, box.height]",
        canvas,
        row,
    )
    move = ActionChains(browser, duration=0)  # no stops on the way
    move.move_to_element_with_offset(canvas, round(x - width / 2), round(y - height / 2)).perform()
    shown_row = WebDriverWait(browser, 10, 0.1).until(
        lambda _: browser.execute_script("return document.getElementById('thumb').dataset.row")
    )
    # Where points lie on each other, the pointer's whole pixels decide which one it is.
    x_shown, y_shown = browser.execute_script("return jaxclustMap.at(arguments[0])", int(shown_row))
    assert np.hypot(x - x_shown, y - y_shown) < 2
    uri = browser.execute_script("return document.getElementById('thumb').toDataURL()")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    return int(shown_row), picture[..., :3].astype(int)


def test_hovering_shows_the_image_s_own_picture_and_name(browser, page, folder):
    run = read_finished(page.parent)
    for wanted in (0, 7, 20, N - 1):
        look(browser, page)
        row, found = hover(browser, wanted)
        with Image.open(os.fsencode(folder / run.ids[row])) as picture:
            original = np.asarray(picture.convert("RGB").resize(found.shape[1::-1], 0)).astype(int)
        errors = [np.abs(found - original).mean()]
        # It is nearer to its own file than to one of another kind.
        for other in range(N):
            if run.labels[other] != run.labels[row]:
                with Image.open(os.fsencode(folder / run.ids[other])) as picture:
                    resized = picture.convert("RGB").resize(found.shape[1::-1], 0)
                errors.append(np.abs(found - np.asarray(resized).astype(int)).mean())
        assert errors[0] == min(errors) and errors[0] < 25
        name = browser.execute_script("return document.getElementById('tip-name').textContent")
        text = browser.execute_script("return document.getElementById('tip-text').textContent")
        assert name == shown(run.ids[row])
        assert text.startswith(f"cluster {run.clusters[row]}, confidence")
    assert browser.get_log("browser") == []


def test_every_cluster_and_skipped_file_is_there_and_can_be_reached(browser, page):
    from selenium.webdriver.common.by import By

    look(browser, page)
    run = read_finished(page.parent)
    for cluster in range(run.n_clusters):
        section = browser.find_element(By.ID, f"cluster-{cluster}")
        browser.execute_script("arguments[0].scrollIntoView()", section)
        assert section.is_displayed()
        assert f"Cluster {cluster}" in section.text
    assert "torn<b>.png" in browser.find_element(By.ID, "skipped").text
    # Every picture of the sheets is really painted.
    painted = browser.execute_script(
        "return [...document.querySelectorAll('.thumb')].every("
        "(one) => getComputedStyle(one).backgroundImage.startsWith('url(\"data:image'))"
    )
    assert painted
    links = browser.find_elements(By.CSS_SELECTOR, "a[href^='#']")
    for link in links:
        target = link.get_attribute("href").split("#")[1]
        assert browser.find_elements(By.ID, target), target


def test_the_map_works_by_keyboard(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    look(browser, page)
    canvas = browser.find_element(By.ID, "points")
    before = browser.execute_script("return jaxclustMap.at(0)")
    canvas.send_keys("+")
    assert browser.execute_script("return jaxclustMap.at(0)") != before
    canvas.send_keys("0")
    assert browser.execute_script("return jaxclustMap.at(0)") == before
    canvas.send_keys(Keys.ARROW_LEFT)
    assert browser.execute_script("return jaxclustMap.at(0)") != before
    canvas.send_keys("n")
    assert browser.find_element(By.ID, "tip").is_displayed()
    canvas.send_keys(Keys.ESCAPE)
    assert not browser.find_element(By.ID, "tip").is_displayed()
    button = browser.find_elements(By.CSS_SELECTOR, "button.show")[1]
    browser.execute_script("arguments[0].scrollIntoView()", button)
    button.send_keys(Keys.ENTER)
    assert browser.find_element(By.ID, "only").get_attribute("value") == "1"
    # Any cluster may hold it.
    Select(browser.find_element(By.ID, "only")).select_by_value("-1")
    find = browser.find_element(By.ID, "find")
    find.send_keys("30.png")
    name = browser.execute_script("return document.getElementById('tip-name').textContent")
    assert name.endswith("30.png")


def test_what_is_shown_has_contrast_and_names(browser, page):
    """Text against its background, in both themes; every control has a name."""
    for dark in (False, True):
        look(browser, page, dark=dark)
        ratios = browser.execute_script(
            """
            const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map((v) => {
              v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
              return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
              return (x + 0.05) / (y + 0.05); };
            const page = getComputedStyle(document.body);
            const panel = getComputedStyle(document.querySelector('.cluster')).backgroundColor;
            const seen = [];
            for (const one of document.querySelectorAll('p, a, h2, td, th, .muted, .certainty, dt'))
              for (const back of [page.backgroundColor, panel])
                seen.push(ratio(getComputedStyle(one).color, back));
            return Math.min(...seen);
            """
        )
        assert ratios >= 4.5
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('input, select, button, [tabindex], section')]"
        ".filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim())).length"
    )
    assert unnamed == 0
