(() => {
  "use strict";
  const page = document.documentElement;

  function make(tag, attributes, text) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Light and dark: the system's until the button is pressed; nothing is stored.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = make("button", { type: "button", class: "tool", id: "theme" });
  const isDark = () => (page.dataset.theme ? page.dataset.theme === "dark" : system.matches);
  function paint() {
    toggle.textContent = isDark() ? "Light page" : "Dark page";
    for (const source of document.querySelectorAll("picture source")) source.media = isDark() ? "screen" : "not all";
  }
  toggle.addEventListener("click", () => { page.dataset.theme = isDark() ? "light" : "dark"; paint(); });
  system.addEventListener("change", paint);
  document.getElementById("tools").append(toggle);
  paint();

  // Sorting: up, down, as it was. What has no value comes last both ways.
  function key(row, column, words) {
    const cell = row.cells[column];
    if (words) return cell.textContent.trim();
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text === "" ? NaN : { inf: Infinity, "-inf": -Infinity }[text] ?? Number(text);
  }
  function order(body, original, column, words, way) {
    const keyed = original.map((row) => [key(row, column, words), row]);
    const missing = ([value]) => value === "" || value === "–" || Number.isNaN(value);
    const known = keyed.filter((pair) => !missing(pair));
    known.sort(([a], [b]) => way * (words ? a.localeCompare(b, "en", { numeric: true }) : a < b ? -1 : a > b ? 1 : 0));
    body.append(...[...known, ...keyed.filter(missing)].map(([, row]) => row));
  }
  function sortable(table) {
    const body = table.tBodies[0], original = [...body.rows], heads = [...table.tHead.rows[0].cells];
    if (original.length < 2) return;
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", class: "sort" });
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", next);
        if (next === "none") body.append(...original);
        else order(body, original, column, "words" in head.dataset, next === "ascending" ? 1 : -1);
      });
    });
  }

  // Filtering: all words must be in the row; each list picks the rows that have what was picked.
  const tokens = (row, column) => JSON.parse(row.cells[column].dataset.tokens ?? "[]");
  function choices(table, rows) {
    return [...table.tHead.rows[0].cells].flatMap((head, column) => {
      const found = [...new Set(rows.flatMap((row) => tokens(row, column)))].sort();
      if (!head.dataset.choose || found.length < 2) return [];
      const list = make("select", { "aria-label": head.dataset.choose });
      list.append(make("option", { value: "" }, `${head.dataset.choose}: all`));
      list.append(...found.map((token) => make("option", { value: token }, `${head.dataset.choose}: ${token}`)));
      return [{ column, list }];
    });
  }
  function filterable(table) {
    const rows = [...table.tBodies[0].rows], lists = choices(table, rows);
    const box = table.closest(".scroll"), name = box.getAttribute("aria-label");
    const bar = make("div", { class: "filter", role: "search", "aria-label": `Filter: ${name}` });
    const text = make("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter rows of ${name}` });
    const count = make("output", { "aria-live": "polite" });
    function apply() {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const content = row.textContent.toLowerCase();
        row.hidden = !(words.every((word) => content.includes(word))
          && lists.every(({ column, list }) => !list.value || tokens(row, column).includes(list.value)));
        shown += !row.hidden;
      }
      count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
    }
    for (const control of [text, ...lists.map(({ list }) => list)]) control.addEventListener("input", apply);
    bar.append(text, ...lists.map(({ list }) => list), count);
    box.before(bar);
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    if ("filter" in table.dataset || table.tBodies[0].rows.length > 8) filterable(table);
    sortable(table);
  }

  // A command to the clipboard; where that is not allowed it is selected, to be copied by hand.
  for (const block of document.querySelectorAll("pre.command")) {
    const button = make("button", { type: "button", class: "tool copy" }, "Copy");
    button.addEventListener("click", async () => {
      const code = block.querySelector("code");
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Selected";
      }
    });
    block.append(button);
  }

  // On paper everything is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
