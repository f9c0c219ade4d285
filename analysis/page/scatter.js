// Points over two columns, coloured by a third: chosen, filtered, hovered, pinned, and walked through with the keys.

class Scatter {
  constructor(rows, chart) {
    this.rows = rows;
    this.state = { x: chart.x, y: chart.y, colour: chart.colour, logX: chart.log, logY: chart.log };
    this.at = null; // the row under the pointer or the keys
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.layer = svg("svg", { class: "layer", "aria-hidden": "true" });
    this.legend = el("div", { class: "legend" });
    this.said = el("p", { class: "said muted" });
    this.stage = el("div", {
      class: "stage", tabindex: "0", role: "img", "data-chart": "scatter",
      onpointermove: (event) => this.hover(event), onpointerleave: () => this.leave(), onclick: (event) => this.click(event),
      onkeydown: (event) => this.key(event), onblur: () => this.leave(),
    }, this.canvas, this.layer);
    this.node = el("div", { class: "chart" }, this.controls(), this.legend, this.stage, this.said);
    rows.onchange(() => this.draw());
    redrawn(this.stage, () => this.draw());
  }

  controls() {
    const numeric = this.rows.numeric().map((column) => [column.name, words(column)]);
    const colours = [["", "(one colour)"], ...this.rows.textual().map((c) => [c.name, words(c)]), ...numeric];
    const set = (name) => (value) => { this.state[name] = value; this.draw(); };
    return el("div", { class: "controls" },
      select("across", numeric, this.state.x, set("x")), check("log", this.state.logX, set("logX"), { "data-log": "x" }),
      select("up", numeric, this.state.y, set("y")), check("log", this.state.logY, set("logY"), { "data-log": "y" }),
      select("colour", colours, this.state.colour, set("colour")));
  }

  draw() {
    const { rows, state } = this;
    const size = { width: this.stage.clientWidth, height: this.stage.clientHeight };
    if (!size.width) return;
    this.columns = { x: rows.byName.get(state.x), y: rows.byName.get(state.y) };
    const [across, up] = [this.columns.x.values, this.columns.y.values];
    const drawable = (value, log) => value !== null && (!log || value > 0);
    this.points = rows.visible.filter((row) => drawable(across[row], state.logX) && drawable(up[row], state.logY));
    this.layer.replaceChildren();
    this.layer.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    this.places(size);
    frame(this.layer, size, this.x, this.y, this.columns.x, this.columns.y);
    this.best = rows.section.front ? this.front() : [];
    this.dots(size);
    this.line();
    if (rows.section.diagonal && state.x === "measured" && state.y === "predicted") this.band();
    for (const row of rows.pinned) if (this.points.includes(row)) this.ring(row, "pin");
    this.marker = svg("circle", { class: "hover", r: 8, visibility: "hidden" });
    this.layer.append(this.marker);
    this.say(size);
  }

  places(size) {
    const extent = (values, log) => {
      let [low, high] = [Infinity, -Infinity];
      for (const row of this.points) [low, high] = [Math.min(low, values[row]), Math.max(high, values[row])];
      return low > high ? (log ? [1, 10] : [0, 1]) : widened(low, high, log);
    };
    const { x, y } = this.columns;
    this.x = scale(...extent(x.values, this.state.logX), MARGIN.left, size.width - MARGIN.right, this.state.logX);
    this.y = scale(...extent(y.values, this.state.logY), size.height - MARGIN.bottom, MARGIN.top, this.state.logY);
  }

  infeasible(row) {
    return this.rows.section.front && this.rows.byName.has("feasible") && this.rows.value("feasible", row) !== "yes";
  }

  dots(size) {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = size.width * ratio;
    this.canvas.height = size.height * ratio;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const radius = this.points.length > 5000 ? 2.2 : 3.6;
    const colour = this.colours();
    for (const row of this.points) {
      const faint = this.infeasible(row);
      context.globalAlpha = faint ? 0.18 : 0.75;
      context.fillStyle = faint ? REST : colour(row);
      context.beginPath();
      context.arc(this.x(this.columns.x.values[row]), this.y(this.columns.y.values[row]), faint ? radius * 0.7 : radius, 0, 7);
      context.fill();
    }
  }

  colours() {
    const column = this.rows.byName.get(this.state.colour);
    this.legend.replaceChildren();
    if (!column) return () => COLOURS[0];
    if (column.kind !== "number") {
      const { of, entries } = palette(column, this.points, this.best);
      legend(this.legend, entries);
      return (row) => of[column.codes[row]];
    }
    const [low, high] = this.rows.extent(column);
    legend(this.legend, [0, 0.5, 1].map((share) => [shown(low + share * (high - low), column.unit), ramp(share)]));
    return (row) => (column.values[row] === null ? REST : ramp((column.values[row] - low) / (high - low || 1)));
  }

  // The points that no other one is better than in one column and at least as good as in the other.
  front() {
    const signed = (column) => (row) => (column.more ? -column.values[row] : column.values[row]);
    const [across, up] = [signed(this.columns.x), signed(this.columns.y)];
    const sorted = this.points.filter((row) => !this.infeasible(row)).sort((a, b) => across(a) - across(b) || up(a) - up(b));
    const best = [];
    let lowest = Infinity;
    for (const row of sorted) {
      if (up(row) >= lowest) continue;
      lowest = up(row);
      best.push(row);
    }
    return best;
  }

  line() {
    const path = this.best.map((row, k) => {
      const [px, py] = [this.x(this.columns.x.values[row]), this.y(this.columns.y.values[row])];
      return k ? `H${px}V${py}` : `M${px},${py}`;
    });
    if (path.length) this.layer.append(svg("path", { class: "front", d: path.join("") }));
    for (const row of this.best) this.ring(row, "best");
  }

  band() {
    const [low, high] = [Math.max(this.x.low, this.y.low), Math.min(this.x.high, this.y.high)];
    if (!(low < high)) return;
    const at = (value, factor) => `${this.x(value)},${this.y(Math.min(Math.max(value * factor, this.y.low), this.y.high))}`;
    this.layer.append(
      svg("path", { class: "band", d: `M${at(low, 1.1)}L${at(high, 1.1)}L${at(high, 0.9)}L${at(low, 0.9)}Z` }),
      svg("path", { class: "equal", d: `M${at(low, 1)}L${at(high, 1)}` }));
  }

  ring(row, kind) {
    this.layer.append(svg("circle", { class: kind, cx: this.x(this.columns.x.values[row]), cy: this.y(this.columns.y.values[row]), r: kind === "pin" ? 8 : 5 }));
  }

  say(size) {
    const best = this.rows.section.front ? `, ${this.best.length} on the front of these two` : "";
    const text = `${this.points.length.toLocaleString("en")} of ${this.rows.count.toLocaleString("en")} rows drawn${best}`;
    const hint = size.width > 500 ? "; hover or arrow keys: details, click or Enter: pin" : "";
    this.said.textContent = text + hint;
    this.stage.setAttribute("aria-label", `${words(this.columns.y)} over ${words(this.columns.x)}: ${text}. Arrow keys walk through the points, Enter pins one.`);
    this.stage.dataset.points = this.points.length;
  }

  nearest(event) {
    const box = this.stage.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [found, least] = [null, 24 * 24];
    for (const row of this.points) {
      const distance = (this.x(this.columns.x.values[row]) - px) ** 2 + (this.y(this.columns.y.values[row]) - py) ** 2;
      if (distance < least) [found, least] = [row, distance];
    }
    return found;
  }

  hover(event) {
    this.point(this.nearest(event), event.clientX, event.clientY);
  }

  point(row, x, y) {
    this.at = row;
    if (row === null) {
      this.leave();
      return;
    }
    const [px, py] = [this.x(this.columns.x.values[row]), this.y(this.columns.y.values[row])];
    fill(this.marker, { cx: px, cy: py, visibility: "visible" }, []);
    const box = this.stage.getBoundingClientRect();
    tip.show(this.rows.lines(row, [this.state.x, this.state.y, this.state.colour]), x ?? box.left + px, y ?? box.top + py);
  }

  leave() {
    this.at = null;
    tip.hide();
    if (this.marker) this.marker.setAttribute("visibility", "hidden");
  }

  click(event) {
    const row = this.nearest(event);
    if (row !== null) this.rows.pin(row);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step && this.points.length) {
      const order = [...this.points].sort((a, b) => this.columns.x.values[a] - this.columns.x.values[b] || a - b);
      const place = order.indexOf(this.at);
      this.point(order[place < 0 ? 0 : (place + step + order.length) % order.length]);
    } else if (event.key === "Enter" && this.at !== null) {
      const row = this.at;
      this.rows.pin(row);
      this.point(row);
    } else if (event.key === "Escape") {
      this.leave();
    } else {
      return;
    }
    event.preventDefault();
  }
}
