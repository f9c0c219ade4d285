// Elements made of data: texts only ever become text nodes, so nothing in the data can become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children.flat());
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function select(label, options, value, onchange) {
  const box = el("select", { onchange: () => onchange(box.value) });
  for (const [name, text] of options) box.append(el("option", { value: name, selected: name === value }, text));
  return el("label", { class: "control" }, el("span", {}, label), box);
}

function check(label, checked, onchange, attributes = {}) {
  const box = el("input", { type: "checkbox", checked, ...attributes, onchange: () => onchange(box.checked) });
  return el("label", { class: "check" }, box, el("span", {}, label));
}

// One hint for the whole page: beside the pointer, and read aloud where the keyboard moves.
const tip = {
  node: document.getElementById("tip"),
  show(lines, x, y) {
    this.node.replaceChildren(...lines.map(([name, text]) => el("div", {}, el("span", { class: "muted" }, `${name} `), text)));
    this.node.hidden = false;
    const { width, height } = this.node.getBoundingClientRect();
    const left = x + 14 + width > document.documentElement.clientWidth ? x - 14 - width : x + 14;
    this.node.style.left = `${Math.max(4, left)}px`;
    this.node.style.top = `${Math.max(4, Math.min(y + 14, window.innerHeight - height - 4))}px`;
  },
  hide() {
    this.node.hidden = true;
  },
};

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Draw again when the width or the colour scheme changes, and before printing.
function redrawn(node, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (node.clientWidth && node.clientWidth !== width) {
      width = node.clientWidth;
      draw();
    }
  }).observe(node);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
