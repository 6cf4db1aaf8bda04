"""The page in a real browser: no complaints, the right picture under the pointer.

Needs Debian's chromium and chromium-driver (or others on the PATH) and selenium.
JAXCLUST_SCREENSHOTS=FOLDER keeps pictures of the page to look at.
"""

import base64
import importlib.util
import io
import json
import os
import shutil
import time
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
    missing = None
    if program is None or driver is None:
        missing = "needs chromium and chromedriver: apt install chromium chromium-driver"
    elif importlib.util.find_spec("selenium") is None:
        missing = "needs selenium: pip install selenium"
    if missing:
        # .ci/run installs them, and then no test may be left out.
        (pytest.fail if os.environ.get("JAXCLUST_BROWSER") else pytest.skip)(missing)
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


class Editor:
    """The page's edits, by mouse and keyboard."""

    def __init__(self, browser, page):
        self.browser = browser
        look(browser, page)
        browser.execute_script("localStorage.clear()")
        self.reload()

    def reload(self):
        self.browser.refresh()
        self.grid.location_once_scrolled_into_view  # noqa: B018

    def find(self, name):
        return self.browser.find_element("id", f"edit-{name}")

    @property
    def grid(self):
        return self.find("grid")

    def choose(self, name, value):
        from selenium.webdriver.support.ui import Select

        Select(self.find(name)).select_by_value(str(value))

    def options(self, name):
        found = self.browser.find_elements("css selector", f"#edit-{name} option")
        return {int(one.get_attribute("value")): one.text for one in found}

    def click(self, name):
        self.browser.execute_script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", self.find(name)
        )
        self.find(name).click()

    def press(self, *keys):
        self.grid.send_keys(*keys)

    def tiles(self):
        """Row and whether it is selected, of the tiles in sight."""
        found = self.browser.find_elements("css selector", "#edit-grid .tile")
        return {
            int(one.get_attribute("data-row")): one.get_attribute("aria-selected") == "true"
            for one in found
        }

    def selected(self):
        return sorted(row for row, yes in self.tiles().items() if yes)

    def said(self):
        return self.find("state").text

    def kept(self):
        """The edits as they would be saved."""
        return json.loads(
            self.browser.execute_script(
                "return localStorage.getItem(Object.keys(localStorage)[0]) || '[]'"
            )
        )


@pytest.fixture
def editor(browser, page):
    return Editor(browser, page)


def clusters_of(page):
    return read_finished(page.parent).clusters


def test_a_cluster_is_renamed_by_enter_and_undone(editor, browser):
    from selenium.webdriver.common.keys import Keys

    editor.choose("cluster", 1)
    editor.find("name").send_keys("<b>left", Keys.ENTER)
    assert editor.kept() == [{"do": "rename", "cluster": 1, "name": "<b>left"}]
    assert editor.options("cluster")[1].startswith("1 · <b>left (")
    legend = browser.find_element("id", "legend").text
    assert "cluster 1 · <b>left" in legend
    editor.click("undo")
    assert "left" not in editor.options("cluster")[1]
    assert editor.kept() == []
    assert browser.get_log("browser") == []


def test_merging_and_undo_by_key(editor, page):
    clusters = clusters_of(page)
    editor.choose("cluster", 0)
    editor.choose("into", 2)
    editor.click("merge")
    assert set(editor.options("cluster")) == {1, 2}
    together = int(np.isin(clusters, [0, 2]).sum())
    assert editor.options("cluster")[2] == f"2 ({together})"
    assert editor.find("cluster").get_attribute("value") == "2"
    editor.press("u")
    assert set(editor.options("cluster")) == {0, 1, 2}
    assert editor.options("cluster")[2] == f"2 ({(clusters == 2).sum()})"


def test_pictures_are_chosen_by_mouse_and_moved(editor, browser, page):
    clusters = clusters_of(page)
    editor.choose("cluster", 0)
    assert set(editor.tiles()) == set(np.flatnonzero(clusters == 0).tolist())
    tiles = browser.find_elements("css selector", "#edit-grid .tile")
    first = int(tiles[0].get_attribute("data-row"))
    tiles[0].click()
    assert editor.selected() == [first]
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    third = browser.find_elements("css selector", "#edit-grid .tile")[2]
    ActionChains(browser).key_down(Keys.SHIFT).click(third).key_up(Keys.SHIFT).perform()
    rows = editor.selected()
    assert len(rows) == 3
    editor.choose("to", 1)
    editor.click("move")
    assert editor.kept() == [{"do": "move", "rows": rows, "into": 1}]
    assert "Moved 3 pictures to 1." in editor.said()
    editor.choose("cluster", 1)
    assert set(rows) <= set(editor.tiles())


def test_pictures_are_chosen_by_keys_and_marked_as_noise(editor, browser, page):
    from selenium.webdriver.common.keys import Keys

    editor.choose("cluster", 2)
    editor.grid.send_keys(Keys.HOME, " ", Keys.SHIFT + Keys.ARROW_RIGHT)
    rows = editor.selected()
    assert len(rows) == 2
    editor.press("n")
    assert editor.kept() == [{"do": "noise", "rows": rows}]
    assert editor.options("cluster")[65535] == "noise (2)"
    editor.grid.send_keys(Keys.CONTROL + "a")
    assert len(editor.selected()) == int((clusters_of(page) == 2).sum()) - 2
    editor.press(Keys.ESCAPE)
    assert editor.selected() == []
    editor.grid.send_keys(Keys.CONTROL + "z")
    assert editor.kept() == []
    # A picture moved by the keyboard alone: select it, M, the cluster, Enter.
    editor.grid.send_keys(Keys.HOME, " ", "m")
    assert browser.switch_to.active_element.get_attribute("id") == "edit-to"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    [edit] = editor.kept()
    assert edit["do"] == "move" and len(edit["rows"]) == 1
    assert browser.switch_to.active_element.get_attribute("id") == "edit-grid"


def test_a_merged_cluster_is_split_into_what_it_was(editor, page):
    clusters = clusters_of(page)
    editor.choose("cluster", 0)
    editor.choose("into", 1)
    editor.click("merge")
    editor.click("split")
    split = editor.kept()[-1]
    assert split["do"] == "split" and split["cluster"] == 1 and split["new"] == [3]
    wanted = [set(np.flatnonzero(clusters == c).tolist()) for c in (0, 1)]
    assert [set(part) for part in split["parts"]] in (wanted, wanted[::-1])


def test_search_and_order(editor, page):
    from selenium.webdriver.common.keys import Keys

    run = read_finished(page.parent)
    cluster = int(run.clusters[20])
    editor.choose("cluster", cluster)
    for value, order in (("least", run.confidence), ("most", -run.confidence)):
        editor.choose("sort", value)
        rows = list(editor.tiles())
        found = np.round(order[rows] * 255)
        assert (np.diff(found) >= 0).all()
    editor.choose("sort", "name")
    names = [shown(run.ids[row]) for row in editor.tiles()]
    assert names == sorted(names)
    wanted = shown(run.ids[20])
    editor.find("search").send_keys(wanted[-6:].upper())
    assert list(editor.tiles()) == [
        row
        for row in np.flatnonzero(run.clusters == cluster)
        if shown(run.ids[row]).endswith(wanted[-6:])
    ]
    assert 20 in editor.tiles()
    editor.find("search").send_keys(Keys.CONTROL + "a", Keys.DELETE)
    assert len(editor.tiles()) == int((run.clusters == cluster).sum())


def test_edits_survive_a_reload_are_saved_and_applied(editor, browser, page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    from jaxclust.cli import main

    run = read_finished(page.parent)
    editor.choose("cluster", 0)
    editor.find("name").send_keys("kept", Keys.ENTER)
    editor.grid.send_keys(Keys.HOME, " ", "n")
    before = editor.kept()
    editor.reload()
    assert "2 edits" in editor.said()
    assert editor.kept() == before
    assert editor.options("cluster")[0].startswith("0 · kept")
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    editor.click("save")
    file = tmp_path / "edits.json"
    for _ in range(100):
        if file.is_file():
            break
        time.sleep(0.1)
    assert json.loads(file.read_text())["edits"] == before
    assert main(["apply", str(page.parent), str(file), f"--out={tmp_path}/edited"]) == 0
    changed = read_finished(tmp_path / "edited")
    [row] = before[1]["rows"]
    assert changed.names == ("kept", "", "", "noise")
    assert changed.clusters[row] == 3
    others = np.arange(N) != row
    np.testing.assert_array_equal(changed.clusters[others], run.clusters[others])
    look(browser, tmp_path / "edited" / "report.html")
    assert browser.get_log("browser") == []
    assert "kept" in browser.find_element("id", "cluster-0-title").text
    assert Editor(browser, tmp_path / "edited" / "report.html").options("cluster")[0] == (
        f"0 · kept ({(changed.clusters == 0).sum()})"
    )


def test_the_grid_has_names_for_screen_readers(editor, browser):
    editor.choose("cluster", 0)
    tile = browser.find_element("css selector", "#edit-grid .tile")
    assert tile.get_attribute("role") == "option"
    assert "confidence" in tile.get_attribute("aria-label")
    assert tile.get_attribute("aria-setsize") == str(len(editor.tiles()))
    active = editor.grid.get_attribute("aria-activedescendant")
    assert browser.find_element("id", active)
    for field in browser.find_elements("css selector", "#edit select, #edit input"):
        assert field.accessible_name
