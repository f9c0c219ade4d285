// The page: its head, and each section with its charts, filters, pins and table.

const CHARTS = { scatter: Scatter, bars: Bars, area: Area };
const FEW_ROWS = 8; // so many are seen at a glance, and need no filters
const NAMES = { scatter: "points", bars: "sums", area: "over time" };

// Charts of one section take turns; each is made when it is first looked at.
function charts(rows) {
  const wanted = rows.section.charts;
  const place = el("div");
  const made = new Map();
  const buttons = wanted.map((chart, k) => el("button", { type: "button", role: "tab", onclick: () => turn(k) }, NAMES[chart.kind]));
  function turn(k) {
    if (!made.has(k)) made.set(k, new CHARTS[wanted[k].kind](rows, wanted[k]).node);
    place.replaceChildren(made.get(k));
    buttons.forEach((button, other) => button.setAttribute("aria-selected", String(other === k)));
  }
  if (wanted.length) turn(0);
  return el("div", { class: "charts" }, ...(wanted.length > 1 ? [el("div", { class: "tabs", role: "tablist" }, ...buttons)] : []), place);
}

function section(found) {
  const rows = new Rows(found);
  const notes = found.notes.map((note) => el("p", { class: "note" }, note));
  const [drawn, pins, grid] = [charts(rows), new Pins(rows), new Grid(rows)];
  const aside = rows.count > FEW_ROWS ? [el("aside", {}, el("details", { class: "all", open: window.innerWidth > 900 }, el("summary", {}, "Filters"), filters(rows)))] : [];
  return el("section", { "aria-label": found.title }, el("h2", {}, found.title), ...notes,
    el("div", { class: aside.length ? "body" : "" }, ...aside, el("div", { class: "view" }, drawn, pins.node, grid.node)));
}

const page = JSON.parse(document.getElementById("data").textContent);
document.getElementById("head").append(
  el("h1", {}, page.title),
  el("dl", { class: "facts" }, ...page.facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
  ...page.notes.map((note) => el("p", { class: "note" }, note)));
document.getElementById("main").replaceChildren(...page.sections.map(section));
