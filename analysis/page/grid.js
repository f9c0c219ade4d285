// The table: sorted by a click on its head, as many rows as asked for, columns chosen; and what is pinned, side by side.

const PAGE_ROWS = 100;

class Grid {
  constructor(rows) {
    this.rows = rows;
    this.shown = rows.columns.filter((column) => rows.section.shown.includes(column.name)).map((column) => column.name);
    const sort = rows.section.sort;
    this.sort = { name: sort.replace(/^-/, ""), down: sort.startsWith("-") };
    this.limit = PAGE_ROWS;
    this.head = el("thead");
    this.body = el("tbody");
    this.more = el("button", { type: "button", class: "more", onclick: () => { this.limit *= 4; this.draw(); } });
    this.said = el("p", { class: "said muted", "aria-live": "polite" });
    const chosen = rows.columns.map((column) => check(words(column), this.shown.includes(column.name), (on) => this.choose(column.name, on)));
    this.node = el("div", { class: "grid" },
      el("div", { class: "gridhead" }, this.said, el("details", { class: "columns" }, el("summary", {}, "Columns"), ...chosen)),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `table of ${rows.section.title}` },
        el("table", {}, this.head, this.body)), this.more);
    rows.onchange(() => this.draw());
    this.draw();
  }

  choose(name, on) {
    const wanted = new Set(on ? [...this.shown, name] : this.shown.filter((other) => other !== name));
    this.shown = this.rows.columns.map((column) => column.name).filter((other) => wanted.has(other));
    this.draw();
  }

  // Visible rows in order; what is not known comes last either way.
  sorted() {
    const { name, down } = this.sort;
    const column = this.rows.byName.get(name);
    if (!column) return this.rows.visible;
    let rank = column.values;
    if (column.kind !== "number") {
      const order = column.names.map((_, code) => code).sort((a, b) => column.names[a].localeCompare(column.names[b], "en", { numeric: true }));
      const place = [];
      order.forEach((code, k) => { place[code] = k; });
      rank = column.codes.map((code) => place[code]);
    }
    const sign = down ? -1 : 1;
    return [...this.rows.visible].sort((a, b) => {
      if (rank[a] === null || rank[b] === null) return (rank[a] === null) - (rank[b] === null) || a - b;
      return sign * (rank[a] - rank[b]) || a - b;
    });
  }

  draw() {
    const columns = this.shown.map((name) => this.rows.byName.get(name));
    this.head.replaceChildren(el("tr", {}, ...columns.map((column) => this.title(column))));
    const order = this.sorted();
    this.body.replaceChildren(...order.slice(0, this.limit).map((row) => this.line(row, columns)));
    const left = order.length - Math.min(order.length, this.limit);
    this.more.hidden = left === 0;
    this.more.textContent = `Show more (${left.toLocaleString("en")} left)`;
    this.said.textContent = `${order.length.toLocaleString("en")} of ${this.rows.count.toLocaleString("en")} rows`;
    this.node.dataset.rows = order.length;
  }

  title(column) {
    const own = this.sort.name === column.name;
    const turn = () => {
      this.sort = { name: column.name, down: own ? !this.sort.down : false };
      this.draw();
      this.head.querySelector(`[data-column="${CSS.escape(column.name)}"] button`).focus();
    };
    const arrow = own ? (this.sort.down ? " ▼" : " ▲") : "";
    return el("th", {
      scope: "col", class: column.kind === "number" ? "number" : "", "data-column": column.name,
      "aria-sort": own ? (this.sort.down ? "descending" : "ascending") : "none",
    }, el("button", { type: "button", onclick: turn }, words(column) + arrow));
  }

  line(row, columns) {
    const cells = columns.map((column) => el("td", { class: column.kind === "number" ? "number" : "" }, String(this.rows.text(column.name, row))));
    const pin = () => this.rows.pin(row);
    return el("tr", {
      class: this.rows.pinned.includes(row) ? "pinned" : "", tabindex: "0", "data-row": row, onclick: pin,
      onkeydown: (event) => {
        if (event.key !== "Enter") return;
        pin();
        this.body.querySelector(`[data-row="${row}"]`)?.focus();
      },
    }, ...cells);
  }
}

// Pinned rows side by side: only what differs between them, unless there is one.
class Pins {
  constructor(rows) {
    this.rows = rows;
    this.node = el("div", { class: "pins", hidden: true, "aria-live": "polite" });
    rows.onchange(() => this.draw());
  }

  draw() {
    const { rows } = this;
    this.node.hidden = !rows.pinned.length;
    if (this.node.hidden) return;
    const listed = rows.pinned.map((row) => rows.all(row));
    const lines = listed[0].map(([name], k) => [name, listed.map((own) => own[k][1])]);
    const kept = listed.length > 1 ? lines.filter(([, texts]) => new Set(texts).size > 1) : lines.filter(([, texts]) => texts[0] !== "");
    const remove = (row) => el("button", { type: "button", "aria-label": "remove", onclick: () => rows.pin(row) }, "×");
    const head = el("tr", {}, el("th", {}, listed.length > 1 ? "pinned, where they differ" : "pinned"), ...rows.pinned.map((row) => el("th", {}, remove(row))));
    const body = kept.map(([name, texts]) => el("tr", {}, el("th", { scope: "row" }, name), ...texts.map((text) => el("td", {}, text))));
    this.node.replaceChildren(el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body))));
  }
}
