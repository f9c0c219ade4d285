// The rows of a section: values by column, which of them pass the filters, and which are pinned.

const MOST_LINES = 14;

class Rows {
  constructor(section) {
    this.section = section;
    this.columns = section.columns;
    this.byName = new Map(this.columns.map((column) => [column.name, column]));
    this.count = this.columns.length ? (this.columns[0].values || this.columns[0].codes).length : 0;
    this.filters = new Map(); // column name, or null for the search: row number to whether it passes
    this.pinned = [];
    this.listeners = [];
    this.refresh();
  }

  // What is known of a row in a column: a number, a text, or null.
  value(name, row) {
    const column = this.byName.get(name);
    return column.kind === "number" ? column.values[row] : column.names[column.codes[row]];
  }

  text(name, row) {
    return shown(this.value(name, row), this.byName.get(name).unit);
  }

  onchange(listener) {
    this.listeners.push(listener);
  }

  filter(name, passes) {
    if (passes) this.filters.set(name, passes);
    else this.filters.delete(name);
    this.refresh();
  }

  refresh() {
    const passing = [...this.filters.values()];
    this.visible = [];
    for (let row = 0; row < this.count; row += 1) if (passing.every((passes) => passes(row))) this.visible.push(row);
    this.changed();
  }

  changed() {
    for (const listener of this.listeners) listener();
  }

  pin(row) {
    this.pinned = this.pinned.includes(row) ? this.pinned.filter((other) => other !== row) : [...this.pinned, row].slice(-6);
    this.changed();
  }

  numeric() {
    return this.columns.filter((column) => column.kind === "number" && this.extent(column)[0] !== null);
  }

  textual() {
    return this.columns.filter((column) => column.kind !== "number");
  }

  // Least and most of a column over all rows, null where nothing is known.
  extent(column) {
    if (!column.extent) {
      let [low, high] = [null, null];
      for (const value of column.values) {
        if (value === null) continue;
        if (low === null || value < low) low = value;
        if (high === null || value > high) high = value;
      }
      column.extent = [low, high];
    }
    return column.extent;
  }

  varies(column) {
    if (column.kind !== "number") return column.names.length > 1;
    const [low, high] = this.extent(column);
    return low !== high;
  }

  // What a hint says of a row: what is drawn, then the texts that tell rows apart.
  lines(row, names) {
    const texts = this.textual().filter((column) => this.varies(column)).map((column) => column.name);
    const known = [...new Set([...names, ...texts])].filter((name) => this.byName.has(name));
    const lines = known.map((name) => [words(this.byName.get(name)), String(this.text(name, row))]);
    return lines.filter(([, text]) => text !== "").slice(0, MOST_LINES);
  }

  all(row) {
    return this.columns.map((column) => [words(column), String(this.text(column.name, row))]);
  }
}
