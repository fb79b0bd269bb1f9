"""The page in a real browser: sorting, filtering, dark mode, paper, a phone, and no word to anyone.

Needs Chromium (a Debian package: apt-get install chromium) and playwright (``pip install '.[test]'``); skipped
with a reason where either is missing. No browser is downloaded.
"""

import os
import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")

import synthetic_records as synthetic  # noqa: E402
import synthetic_study  # noqa: E402

from harness.reporting.report import write_report  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                                                              "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PATIENCE = 180_000                                 # ms; a busy machine is slow, and that is no failure
HOSTILE = "<script>alert(1)</script>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def study_page(tmp_path_factory):
    """A study of six arms, with runs beside it that are none of its arms, one of them with a hostile name."""
    out = tmp_path_factory.mktemp("study")
    synthetic_study.write_study(out, suites=("segmentation",), bad={("gate", 3): "diverged"}, pictures=False)
    for name in ("plain", HOSTILE):
        synthetic.write_run(out, synthetic.make_spec("generation", name, 0), minute=990, curves=False)
    return write_report(out).html


@pytest.fixture
def open_page(browser, study_page):
    """open_page(**context) -> the page; at the end, that it stayed silent: no console message, no request."""
    contexts, said, asked = [], [], []

    def load(path=study_page, **options):
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield load
    for context in contexts:
        context.close()
    assert said == []
    assert asked and all(url.startswith("data:image/png") or url.endswith("/report.html") for url in asked)


def arms_table(page):
    return page.locator("table.sortable").first


COLUMN = """(table, name) => {
  const line = (cell) => cell.innerText.trim().split("\\n")[0].trim();
  const at = [...table.tHead.rows[0].cells].findIndex((head) => line(head) === name);
  return [...table.tBodies[0].rows].filter((row) => row.offsetParent).map((row) => line(row.cells[at]));
}"""


def column(table, name):
    """First lines of a column's cells, by the first line of its heading, of the rows that are shown."""
    return table.evaluate(COLUMN, name)


def sort_button(table, name):
    return table.get_by_role("button").filter(has_text=name).first


def test_the_conclusion_and_the_claims_come_before_any_table(open_page):
    page = open_page()
    assert page.locator("h1").inner_text() == "Skip connections"
    assert "worse than" in page.locator(".conclusion").first.inner_text()
    first_table = page.locator("table").first.bounding_box()["y"]
    for place in (".question", ".conclusion", ".claims li"):
        assert page.locator(place).first.bounding_box()["y"] < first_table


def test_numbers_sort_as_numbers_up_down_and_back(open_page):
    table = arms_table(open_page())
    original = column(table, "arm")
    button = sort_button(table, "difference")
    button.click()
    head = table.locator("th[aria-sort=ascending]")
    assert head.count() == 1 and head.inner_text().startswith("difference")
    rising = column(table, "difference")
    numbers = [float(text.replace("−", "-")) for text in rising[:-1]]
    assert numbers == sorted(numbers) and min(numbers) < 0 < max(numbers)
    assert rising[-1] == "–"                       # the base has no difference: last, both ways
    button.click()
    assert column(table, "difference") == [*reversed(rising[:-1]), "–"]
    button.click()
    assert column(table, "arm") == original
    assert table.locator("th[aria-sort=none]").count() == len(table.locator("thead th").all())


def test_infinity_is_a_number_and_words_are_words(open_page):
    table = arms_table(open_page())
    sort_button(table, "detectable").click()
    sort_button(table, "detectable").click()
    assert column(table, "arm")[0] == "gate"       # 7 of 8 seeds: nothing is detectable
    sort_button(table, "arm").click()
    assert column(table, "arm") == sorted(column(table, "arm"))


def test_sorting_needs_no_mouse(open_page):
    page = open_page()
    table = arms_table(page)
    sort_button(table, "Parameters").focus()
    page.keyboard.press("Enter")
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("Parameters")
    page.keyboard.press("Space")
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_filter_by_text_and_by_verdict(open_page):
    page = open_page()
    table, bar = arms_table(page), page.get_by_role("search").first
    bar.get_by_role("searchbox").fill("CONCAT skip")
    assert column(table, "arm") == ["top-only", "all-but-top"]
    assert bar.locator("output").inner_text() == "2 of 6 rows"
    bar.get_by_role("combobox").first.select_option("worse")
    assert column(table, "arm") == ["all-but-top"]
    bar.get_by_role("searchbox").fill("nothing has this")
    assert column(table, "arm") == []
    bar.get_by_role("searchbox").fill("")
    bar.get_by_role("combobox").first.select_option("")
    assert len(column(table, "arm")) == 6 and bar.locator("output").inner_text() == ""


def paper_colour(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_dark_follows_the_system_until_the_button_is_pressed(open_page):
    light, dark = open_page(color_scheme="light"), open_page(color_scheme="dark")
    colours = paper_colour(light), paper_colour(dark)
    assert colours == ("rgb(255, 255, 255)", "rgb(22, 24, 28)")
    for page, other in ((light, colours[1]), (dark, colours[0])):
        page.locator("#theme").click()
        assert paper_colour(page) == other
    ink = light.evaluate("getComputedStyle(document.querySelector('.plot svg')).color")
    assert ink == "rgb(232, 234, 237)"             # figures are drawn in the page's ink
    sources = light.locator("picture source").evaluate_all("all => all.map((one) => one.media)")
    assert sources and set(sources) == {"screen"}
    light.reload()
    assert paper_colour(light) == colours[0]       # nothing is remembered


@pytest.mark.parametrize("width", [375, 768])
def test_readable_at_phone_width(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    across = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert across[0] <= across[1]
    boxes = page.locator(".scroll:has(table)").evaluate_all("all => all.map((one) => [one.scrollWidth, "
                                                             "one.clientWidth, getComputedStyle(one).overflowX])")
    assert all(overflow == "auto" for *_, overflow in boxes)
    assert width > 375 or any(inner > outer for inner, outer, _ in boxes)   # wide tables scroll inside their box
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.conclusion')).fontSize)") >= 15


def test_paper_has_every_row_and_no_controls(open_page):
    page = open_page(color_scheme="dark")
    page.get_by_role("searchbox").first.fill("gate")
    assert len(column(arms_table(page), "arm")) == 1
    page.emulate_media(media="print")
    assert paper_colour(page) == "rgb(255, 255, 255)"
    assert len(column(arms_table(page), "arm")) == 6
    for control in ("#theme", ".filter", ".copy", "nav"):
        assert not page.locator(control).first.is_visible()
    cut = page.locator(".scroll").evaluate_all("all => all.filter((one) => getComputedStyle(one).overflowX !== "
                                               "'visible').length")
    assert cut == 0
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_without_javascript_it_is_all_there_and_nothing_is_dead(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("button, input, select").count() == 0
    assert len(page.locator("table.sortable").first.locator("tbody tr").all()) == 6
    assert page.locator("details summary").first.is_visible()


def test_a_hostile_name_is_text_and_only_the_page_s_own_script_may_run(open_page):
    page = open_page()
    assert page.locator("script").count() == 1
    assert page.get_by_text(HOSTILE).first.is_visible()
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_links_lead_somewhere_and_names_are_given_once(open_page):
    page = open_page()
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map((one) => one.getAttribute('href').slice(1))")
    idents = page.locator("[id]").evaluate_all("all => all.map((one) => one.id)")
    assert targets and set(targets) <= set(idents)
    assert len(idents) == len(set(idents))


def test_commands_can_be_copied(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    block = page.locator("#again pre.command").first
    block.get_by_role("button").click()
    sync_api.expect(block.get_by_role("button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == block.locator("code").inner_text()
