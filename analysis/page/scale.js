// Axes: from values to pixels, and the frame with ticks and names around a drawing.

const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C7A00"]; // after Okabe and Ito
const REST = "#8a8a8a";
const MARGIN = { left: 78, right: 14, top: 12, bottom: 46 };

function scale(low, high, from, to, log) {
  const map = log ? Math.log : (value) => value;
  const [start, end] = [map(low), map(high)];
  const width = end - start || 1;
  const place = (value) => from + ((map(value) - start) / width) * (to - from);
  place.low = low;
  place.high = high;
  place.log = log;
  return place;
}

// Room around the values, so that no mark lies on the frame; values that are all the same stand in the middle.
function widened(low, high, log) {
  if (low === high) return log ? [low / 2, low * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  if (log) return [low / (high / low) ** 0.03, high * (high / low) ** 0.03];
  const room = (high - low) * 0.03;
  return [low >= 0 && low < room * 5 ? 0 : low - room, high + room];
}

function frame(layer, size, x, y, xColumn, yColumn) {
  const { width, height } = size;
  const [bottom, right] = [height - MARGIN.bottom, width - MARGIN.right];
  const xTicks = (x.log ? logTicks : linearTicks)(x.low, x.high, width / 95);
  const yTicks = (y.log ? logTicks : linearTicks)(y.low, y.high, height / 55);
  const [xTexts, yTexts] = [tickLabels(xTicks, xColumn.unit), tickLabels(yTicks, yColumn.unit)];
  xTicks.forEach((tick, k) => {
    layer.append(svg("line", { class: "gridline", x1: x(tick), x2: x(tick), y1: MARGIN.top, y2: bottom }));
    layer.append(svg("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, xTexts[k]));
  });
  yTicks.forEach((tick, k) => {
    layer.append(svg("line", { class: "gridline", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) }));
    layer.append(svg("text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, yTexts[k]));
  });
  layer.append(svg("path", { class: "axis", d: `M${MARGIN.left},${MARGIN.top}V${bottom}H${right}` }));
  layer.append(svg("text", { class: "name", x: (MARGIN.left + right) / 2, y: height - 8, "text-anchor": "middle" }, words(xColumn)));
  const middle = (MARGIN.top + bottom) / 2;
  layer.append(svg("text", { class: "name", transform: `translate(13,${middle}) rotate(-90)`, "text-anchor": "middle" }, words(yColumn)));
}

// Colours of a text column by code: the values of most of the rows `first`, then of all, have their own.
function palette(column, rows, first) {
  const counts = column.names.map(() => 0);
  for (const row of rows) counts[column.codes[row]] += 1;
  for (const row of first) counts[column.codes[row]] += rows.length;
  const own = column.names.length <= COLOURS.length ? COLOURS.length : COLOURS.length - 1;
  const ranked = counts.map((count, code) => [count, code]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  const named = ranked.slice(0, own).filter(([count]) => count).map(([, code]) => code).sort((a, b) => a - b);
  const of = column.names.map(() => REST);
  named.forEach((code, k) => { of[code] = COLOURS[k]; });
  const others = ranked.slice(own).filter(([count]) => count).length;
  const entries = named.map((code) => [column.names[code] || "(none)", of[code]]);
  return { of, entries: others ? [...entries, [`${others} others`, REST]] : entries };
}

// Colours of a number: from blue over grey to orange, which every eye tells apart.
function ramp(share) {
  const stops = [[0, 114, 178], [150, 150, 150], [230, 159, 0]];
  const at = Math.min(Math.max(share, 0), 1) * 2;
  const k = Math.min(Math.floor(at), 1);
  return `rgb(${stops[k].map((from, i) => Math.round(from + (stops[k + 1][i] - from) * (at - k))).join(",")})`;
}

function legend(node, entries) {
  node.replaceChildren(...entries.map(([text, colour]) => {
    const swatch = svg("svg", { width: 11, height: 11, "aria-hidden": "true" }, svg("rect", { width: 11, height: 11, rx: 2, fill: colour }));
    return el("span", { class: "entry" }, swatch, text);
  }));
}
