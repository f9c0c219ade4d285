// Filters: a search over all texts, a box for each value of a text column, least and most of a number.

const MOST_BOXES = 60;

function filters(rows) {
  const parts = [search(rows)];
  for (const column of rows.textual()) {
    if (rows.varies(column) && column.names.length <= MOST_BOXES) parts.push(boxes(rows, column));
  }
  const numbers = rows.numeric().filter((column) => rows.varies(column));
  if (numbers.length) {
    parts.push(el("details", { class: "ranges" }, el("summary", {}, "Ranges of numbers"), ...numbers.map((column) => range(rows, column))));
  }
  return el("div", { class: "filters" }, ...parts);
}

function search(rows) {
  const box = el("input", {
    type: "search",
    placeholder: "Search all texts",
    "aria-label": "Search all texts",
    oninput: () => {
      const wanted = box.value.trim().toLowerCase();
      const hits = rows.textual().map((column) => [column, column.names.map((name) => name.toLowerCase().includes(wanted))]);
      rows.filter(null, wanted ? (row) => hits.some(([column, hit]) => hit[column.codes[row]]) : null);
    },
  });
  return box;
}

function boxes(rows, column) {
  const on = column.names.map(() => true);
  const inputs = [];
  const apply = () => rows.filter(column.name, on.every(Boolean) ? null : (row) => on[column.codes[row]]);
  const all = (value) => {
    on.fill(value);
    for (const input of inputs) input.checked = value;
    apply();
  };
  const order = column.names.map((name, code) => [name, code]).sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
  const list = order.map(([name, code]) => {
    const label = check(name || "(none)", true, (checked) => { on[code] = checked; apply(); }, { "data-value": name });
    inputs.push(label.querySelector("input"));
    return label;
  });
  const buttons = el("div", { class: "both" },
    el("button", { type: "button", onclick: () => all(true) }, "all"),
    el("button", { type: "button", onclick: () => all(false) }, "none"));
  return el("details", { class: "boxes", "data-column": column.name, open: column.names.length <= 8 },
    el("summary", {}, `${words(column)} (${column.names.length})`), buttons, ...list);
}

function range(rows, column) {
  const [low, high] = rows.extent(column);
  const bound = (side, hint) => el("input", {
    type: "number", step: "any", placeholder: digits(hint, 4), "aria-label": `${side} ${words(column)}`, oninput: () => apply(),
  });
  const [least, most] = [bound("least", low), bound("most", high)];
  const apply = () => {
    const from = least.value === "" ? -Infinity : Number(least.value);
    const to = most.value === "" ? Infinity : Number(most.value);
    const free = from === -Infinity && to === Infinity;
    rows.filter(column.name, free ? null : (row) => column.values[row] !== null && column.values[row] >= from && column.values[row] <= to);
  };
  return el("div", { class: "range", "data-column": column.name },
    el("span", {}, words(column), column.unit ? el("span", { class: "muted" }, ` ${column.unit}`) : ""), least, "–", most);
}
