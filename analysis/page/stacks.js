// Sums by a text column, stacked by another; and columns stacked over time.

const MOST_BARS = 30;

class Bars {
  constructor(rows, chart) {
    this.rows = rows;
    this.state = { x: chart.x, y: chart.y, colour: chart.colour };
    this.legend = el("div", { class: "legend" });
    this.stage = el("div", { class: "bars", "data-chart": "bars" });
    this.said = el("p", { class: "said muted" });
    const texts = rows.textual().map((column) => [column.name, words(column)]);
    const set = (name) => (value) => { this.state[name] = value; this.draw(); };
    this.node = el("div", { class: "chart" }, el("div", { class: "controls" },
      select("sum of", rows.numeric().map((column) => [column.name, words(column)]), chart.y, set("y")),
      select("by", texts, chart.x, set("x")),
      select("stacked by", [["", "(nothing)"], ...texts], chart.colour, set("colour"))),
    this.legend, this.stage, this.said);
    rows.onchange(() => this.draw());
    redrawn(this.stage, () => this.draw());
  }

  // By value of `x`, in the order of the rows: the sum of each value of `colour`.
  sums() {
    const { rows, state } = this;
    const [values, stack] = [rows.byName.get(state.y).values, rows.byName.get(state.colour)];
    const found = new Map();
    for (const row of rows.visible) {
      const name = rows.value(state.x, row);
      if (!found.has(name)) found.set(name, { name: name || "(none)", total: 0, parts: new Map() });
      const bar = found.get(name);
      const code = stack ? stack.codes[row] : 0;
      bar.total += values[row] ?? 0;
      bar.parts.set(code, (bar.parts.get(code) ?? 0) + (values[row] ?? 0));
    }
    const all = [...found.values()];
    const least = all.map((bar) => bar.total).sort((a, b) => b - a)[MOST_BARS - 1] ?? -Infinity;
    return { all, kept: all.filter((bar) => bar.total >= least).slice(0, MOST_BARS) };
  }

  draw() {
    const width = this.stage.clientWidth;
    if (!width) return;
    const { rows, state } = this;
    const [quantity, stack] = [rows.byName.get(state.y), rows.byName.get(state.colour)];
    const colours = stack ? palette(stack, rows.visible, []) : { of: [COLOURS[0]], entries: [] };
    legend(this.legend, colours.entries);
    const { all, kept } = this.sums();
    const longest = Math.max(0, ...kept.map((bar) => bar.name.length));
    const left = Math.min(longest * 6.6 + 10, width * 0.42);
    const letters = Math.floor((left - 8) / 6.6);
    const top = Math.max(...kept.map((bar) => bar.total), 0) || 1;
    const x = scale(0, top, left, width - 76, false);
    const height = kept.length * 20 + 8;
    const layer = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "list" });
    kept.forEach((bar, k) => layer.append(this.bar(bar, 4 + k * 20, x, left, letters, quantity, stack, colours.of)));
    this.stage.replaceChildren(layer);
    this.stage.dataset.bars = kept.length;
    const rest = all.length - kept.length;
    const total = all.reduce((sum, bar) => sum + bar.total, 0);
    this.said.textContent = `${shown(total, quantity.unit)} in all${rest ? `; the ${kept.length} largest of ${all.length} are drawn` : ""}`;
  }

  bar(bar, y, x, left, letters, quantity, stack, of) {
    const parts = [...bar.parts].sort((a, b) => a[0] - b[0]);
    const lines = [[bar.name, shown(bar.total, quantity.unit)]];
    if (stack) lines.push(...parts.map(([code, sum]) => [stack.names[code] || "(none)", shown(sum, quantity.unit)]));
    const spoken = lines.map((line) => line.join(" ")).join(", ");
    const group = svg("g", {
      class: "bar", tabindex: "0", role: "listitem", "aria-label": spoken, onpointerleave: () => tip.hide(), onblur: () => tip.hide(),
      onpointermove: (event) => tip.show(lines, event.clientX, event.clientY),
      onfocus: () => { const box = group.getBoundingClientRect(); tip.show(lines, box.left + left, box.bottom); },
    });
    const name = bar.name.length > letters ? `${bar.name.slice(0, letters - 1)}…` : bar.name;
    group.append(svg("rect", { class: "touch", x: 0, y, width: "100%", height: 20 }));
    group.append(svg("text", { x: left - 6, y: y + 14, "text-anchor": "end" }, name));
    let sum = 0;
    for (const [code, part] of parts) {
      if (part > 0) group.append(svg("rect", { x: x(sum), y: y + 2, width: Math.max(x(sum + part) - x(sum), 0.5), height: 15, fill: of[code] }));
      sum += Math.max(part, 0);
    }
    group.append(svg("text", { x: x(sum) + 5, y: y + 14 }, shown(bar.total, quantity.unit)));
    return group;
  }
}

class Area {
  constructor(rows, chart) {
    this.rows = rows;
    this.x = rows.byName.get(chart.x);
    this.stack = chart.stack.map((name) => rows.byName.get(name));
    this.legend = el("div", { class: "legend" });
    this.layer = svg("svg", { class: "layer", "aria-hidden": "true" });
    this.stage = el("div", {
      class: "stage", "data-chart": "area", tabindex: "0", role: "img", onpointermove: (event) => this.hover(event),
      onpointerleave: () => tip.hide(), onblur: () => tip.hide(), onkeydown: (event) => this.key(event),
      onclick: (event) => this.rows.pin(this.rowAt(event.clientX)),
    }, this.layer);
    this.said = el("p", { class: "said muted" });
    this.node = el("div", { class: "chart" }, this.legend, this.stage, this.said);
    this.total = this.x.values.map((_, row) => this.stack.reduce((sum, column) => sum + column.values[row], 0));
    this.peak = this.total.reduce((best, value, row) => (value > this.total[best] ? row : best), 0);
    redrawn(this.stage, () => this.draw());
  }

  draw() {
    const size = { width: this.stage.clientWidth, height: this.stage.clientHeight };
    if (!size.width || !this.total.length) return;
    const { values } = this.x;
    const end = this.rows.extent(this.x)[1] || 1;
    this.px = scale(0, end, MARGIN.left, size.width - MARGIN.right, false);
    const py = scale(0, this.total[this.peak] * 1.08 || 1, size.height - MARGIN.bottom, MARGIN.top, false);
    this.layer.replaceChildren();
    this.layer.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    let below = values.map(() => 0);
    this.stack.forEach((column, k) => {
      const above = below.map((sum, row) => sum + column.values[row]);
      const edge = (levels) => levels.map((level, row) => `${this.px(values[row])},${py(level)}H${this.px(values[row + 1] ?? end)}`);
      const upper = edge(above).join("V").replace(/V[^,]*,/g, "V");
      const lower = below.map((level, row) => `V${py(level)}H${this.px(values[row])}`).reverse().join("");
      this.layer.append(svg("path", { d: `M${upper}${lower}Z`, fill: this.colour(k) }));
      below = above;
    });
    const what = { label: "memory held", unit: this.stack[0].unit };
    frame(this.layer, size, this.px, py, { label: "time in the step", unit: this.x.unit }, what);
    const [mx, my] = [this.px(values[this.peak]), py(this.total[this.peak])];
    this.layer.append(svg("path", { class: "peak", d: `M${mx},${my}l-5,-8h10z` }));
    this.cursor = svg("path", { class: "cursor", d: "" });
    this.layer.append(this.cursor);
    this.height = size.height;
    legend(this.legend, this.stack.length > 1 ? this.stack.map((column, k) => [words(column), this.colour(k)]) : []);
    const where = ["kind", "layer", "phase"].filter((name) => this.rows.byName.has(name)).map((name) => this.rows.text(name, this.peak));
    this.said.textContent = `peak ${shown(this.total[this.peak], what.unit)} in ${where.join(", ")}; all rows, whatever the filters`;
    this.stage.setAttribute("aria-label", this.said.textContent);
  }

  colour(k) {
    return [...COLOURS, REST, "#5b4a8a"][k % (COLOURS.length + 2)];
  }

  rowAt(clientX) {
    const at = clientX - this.stage.getBoundingClientRect().left;
    let [low, high] = [0, this.x.values.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.px(this.x.values[middle]) <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  hover(event) {
    this.show(this.rowAt(event.clientX), event.clientX, event.clientY);
  }

  show(row, x, y) {
    this.at = row;
    const px = this.px(this.x.values[row]);
    this.cursor.setAttribute("d", `M${px},${MARGIN.top}V${this.height - MARGIN.bottom}`);
    const parts = this.stack.filter((column) => column.values[row]).map((column) => column.name);
    const box = this.stage.getBoundingClientRect();
    const lines = [["memory held", shown(this.total[row], this.stack[0].unit)], ...this.rows.lines(row, [this.x.name, ...(parts.length > 1 ? parts : [])])];
    tip.show(lines, x ?? box.left + px, y ?? box.top + 40);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) this.show(Math.min(Math.max((this.at ?? this.peak) + step, 0), this.total.length - 1));
    else if (event.key === "Enter" && this.at !== undefined) this.rows.pin(this.at);
    else if (event.key === "Escape") tip.hide();
    else return;
    event.preventDefault();
  }
}
