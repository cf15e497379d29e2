"use strict";
// Sorts and filters tables, shows a trial's learning curves, copies commands. What comes from files is set as text only.

const valueOf = (cell) => {
  const text = cell.dataset.v ?? cell.textContent;
  if (text === "" || text === "–") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
};

const compare = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
};

function sortBy(heading) {
  const table = heading.closest("table");
  const column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, value: valueOf(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null); // always last
    return descending ? compare(b.value, a.value) : compare(a.value, b.value);
  });
  body.append(...rows.map((entry) => entry.row));
  showRows(table);
}

const SHOWN = 500; // rows; a browser takes seconds to lay out thousands
const texts = new WeakMap();

const textOf = (row) => {
  if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
  return texts.get(row);
};

function showRows(table) {
  const tools = document.getElementById(`${table.id}-tools`);
  if (!tools) return;
  const wanted = tools.querySelector("input").value.toLowerCase();
  const most = table.dataset.all ? Infinity : SHOWN;
  let matching = 0;
  for (const row of table.tBodies[0].rows) row.hidden = !(textOf(row).includes(wanted) && matching++ < most);
  const shown = Math.min(matching, most), all = table.tBodies[0].rows.length;
  tools.querySelector("output").textContent = `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} rows`;
  tools.querySelector(".all").hidden = matching <= most;
}

async function copyCommand(button) {
  const source = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.nextElementSibling.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(source); // a page from a disk may not write to the clipboard
    button.nextElementSibling.textContent = "selected: Ctrl-C copies";
  }
}

// ---- learning curves

const svg = (name, attributes, parent, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent?.append(node);
  return node;
};

const digits = (value, unit) => unit === "%" ? `${Number((100 * value).toPrecision(3))} %` : String(Number(value.toPrecision(3)));

function drawChart(measure, mine, best) {
  const width = 320, height = 200, left = 52, right = 10, top = 28, bottom = 30;
  const points = [mine, best].map((curve) => curve ? curve[0].map((x, i) => [x, curve[1][i]]).filter((p) => p[1] !== null) : []);
  const all = points.flat();
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img" });
  const heading = measure.unit && measure.unit !== "%" ? `${measure.label} (${measure.unit})` : measure.label;
  svg("title", {}, chart, `${heading} over epochs`);
  svg("text", { x: 4, y: 13 }, chart, heading);
  if (!points[0].length) {
    svg("text", { x: left, y: height / 2 }, chart, "no finite value");
    return chart;
  }
  const ys = all.map((p) => p[1]), xs = all.map((p) => p[0]);
  const [lowest, highest] = [Math.min(...ys), Math.max(...ys)];
  const log = lowest > 0 && (measure.scale === "log" || (measure.scale === "auto" && highest > 20 * lowest));
  const scale = log ? Math.log10 : (y) => y;
  const [low, high] = [scale(lowest), scale(highest)], [first, last] = [Math.min(...xs), Math.max(...xs)];
  const atX = (x) => left + (last > first ? (x - first) / (last - first) : 0.5) * (width - left - right);
  const atY = (y) => height - bottom - (high > low ? (scale(y) - low) / (high - low) : 0.5) * (height - top - bottom);
  for (const share of high > low ? [0, 0.5, 1] : [0]) {
    const y = low + (high - low) * share, value = log ? 10 ** y : y;
    svg("line", { x1: left, x2: width - right, y1: atY(value), y2: atY(value), class: "axis" }, chart);
    svg("text", { x: left - 5, y: atY(value) + 4, "text-anchor": "end" }, chart, digits(value, measure.unit));
  }
  for (const x of new Set([first, last])) svg("text", { x: atX(x), y: height - 12, "text-anchor": "middle" }, chart, String(x));
  svg("text", { x: (left + width) / 2, y: height - 2, "text-anchor": "middle" }, chart, "epoch");
  const path = (curve) => curve.map((p, i) => `${i ? "L" : "M"}${atX(p[0]).toFixed(1)} ${atY(p[1]).toFixed(1)}`).join("");
  if (points[1].length) svg("path", { d: path(points[1]), class: "other" }, chart);
  svg("path", { d: path(points[0]), class: "this" }, chart);
  const end = points[0][points[0].length - 1];
  svg("circle", { cx: atX(end[0]), cy: atY(end[1]), r: 3, class: "dot" }, chart);
  return chart;
}

const dialog = document.getElementById("curve");
const known = new Map();

function curvesOf(id) {
  if (!known.has(id)) known.set(id, JSON.parse(document.getElementById(id).textContent));
  return known.get(id);
}

function showCurves() {
  const row = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  const table = row?.closest("table[data-curves]");
  if (!table || row.tagName !== "TR") return dialog.close(); // by the browser's Back
  const data = curvesOf(table.dataset.curves);
  const number = row.dataset.trial, mine = data.trials[number], best = data.trials[data.best];
  document.getElementById("curve-title").textContent = `Trial ${number}`;
  const headings = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
  document.getElementById("curve-settings").replaceChildren(...Array.from(row.cells).slice(1).map((cell, i) => {
    const pair = document.createElement("div");
    pair.append(document.createElement("dt"), document.createElement("dd"));
    pair.firstChild.textContent = headings[i + 1];
    pair.lastChild.textContent = cell.textContent;
    return pair;
  }));
  const charts = mine ? data.measures.map((measure, i) => drawChart(measure, [mine[0], mine[i + 1]],
    best && String(data.best) !== number ? [best[0], best[i + 1]] : null)) : [];
  document.getElementById("curve-charts").replaceChildren(...charts);
  document.getElementById("curve-note").textContent = charts.length
    ? (String(data.best) === number ? "This is the best trial." : `Dashed: the best, trial ${data.best}.`) + data.note
    : "It reported no epoch.";
  if (!dialog.open) dialog.showModal();
}

dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
addEventListener("hashchange", showCurves);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.closest("th")) sortBy(button.closest("th"));
  else if (button?.classList.contains("copy")) copyCommand(button);
  else if (button?.classList.contains("all")) {
    const table = document.getElementById(button.dataset.shows);
    table.dataset.all = "yes";
    showRows(table);
  }
});
document.addEventListener("input", (event) => {
  if (event.target.classList.contains("filter")) showRows(document.getElementById(event.target.dataset.filters));
});
for (const table of document.querySelectorAll("table")) showRows(table);
showCurves();
