// Numbers as short text: three digits, a prefix before a unit, tick marks at round values.

const PREFIXES = [[1e-12, "p"], [1e-9, "n"], [1e-6, "µ"], [1e-3, "m"], [1, ""], [1e3, "k"], [1e6, "M"], [1e9, "G"], [1e12, "T"], [1e15, "P"]];

// The prefix under which `size` has one to three digits before the point; seconds and plain numbers take none above 1.
function prefixFor(size, unit) {
  const fitting = PREFIXES.filter(([scale]) => scale <= size * 1.0000001 && (scale <= 1 || unit !== "s"));
  return size > 0 && fitting.length ? fitting[fitting.length - 1] : [1, ""];
}

function digits(value, most = 3) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(most - 1).replace("e+", "e");
  const text = value.toPrecision(most);
  return Number(text).toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 15 : most, maximumFractionDigits: 20 });
}

// A value as it stands in a table or a hint.
function shown(value, unit) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return value;
  if (!unit) return Number.isInteger(value) && Math.abs(value) < 1e15 ? value.toLocaleString("en") : digits(value);
  const [scale, prefix] = prefixFor(Math.abs(value), unit);
  return `${digits(value / scale)} ${prefix}${unit}`;
}

function tickLabels(ticks, unit) {
  const top = Math.max(...ticks.map(Math.abs));
  const wide = ticks.some((tick) => tick !== 0 && Math.abs(tick) < top / 1000);
  if (wide) return ticks.map((tick) => shown(tick, unit));
  const [scale, prefix] = unit ? prefixFor(top, unit) : [1, ""];
  return ticks.map((tick) => (tick === 0 ? "0" : `${digits(tick / scale, 6)}${unit ? ` ${prefix}${unit}` : ""}`));
}

function linearTicks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) ticks.push(Number((k * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high, most) {
  const decades = Math.log10(high / low);
  const multiples = decades * 3 <= most ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / Math.max(most, 1)));
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p += 1) {
    if (p % every) continue;
    for (const m of multiples) {
      const tick = Number((m * 10 ** p).toPrecision(12));
      if (tick >= low * 0.999999 && tick <= high * 1.000001) ticks.push(tick);
    }
  }
  return ticks.length > 1 ? ticks : linearTicks(low, high, most);
}

// A column's name in words; its unit stands beside the values.
function words(column) {
  return column.label;
}
