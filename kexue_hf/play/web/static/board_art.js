// The empty board. It is a picture of its own, so that moving pieces do not draw the wood again.
import { CELL, HEIGHT, MARGIN, WIDTH, svg } from "./geometry.js";

const RIGHT = WIDTH - MARGIN;
const BOTTOM = HEIGHT - MARGIN;
// From the viewer's left; each side counts its files from its own right.
const RED_FILES = "九八七六五四三二一";
const BLACK_FILES = "１２３４５６７８９";

/** Return the drawing, and a function that sets the labels for the side at the bottom. */
export function drawBoard() {
  const above = svg("g", { class: "labels" });
  const below = svg("g", { class: "labels" });
  const art = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" },
    definitions(),
    svg("rect", { width: WIDTH, height: HEIGHT, rx: 20, fill: "url(#frame)" }),
    svg("rect", { width: WIDTH, height: HEIGHT, rx: 20, filter: "url(#grain)", class: "grain" }),
    svg("rect", { x: 4, y: 4, width: WIDTH - 8, height: HEIGHT - 8, rx: 17, fill: "none", stroke: "#fff",
      "stroke-opacity": 0.18, "stroke-width": 3 }),
    surface("url(#wood)"),
    surface("#000", { filter: "url(#grain)", class: "grain" }),
    surface("none", { stroke: "#3a1f08", "stroke-opacity": 0.55, "stroke-width": 3 }),
    grid(),
    river(),
    above,
    below,
  );
  const setLabels = (flipped) => {
    const reversed = (text) => [...text].reverse();
    above.replaceChildren(...labels(flipped ? reversed(RED_FILES) : [...BLACK_FILES], 34));
    below.replaceChildren(...labels(flipped ? reversed(BLACK_FILES) : [...RED_FILES], HEIGHT - 13));
  };
  return { art, setLabels };
}

function surface(fill, more = {}) {
  const edge = 46;
  return svg("rect", { x: edge, y: edge, width: WIDTH - 2 * edge, height: HEIGHT - 2 * edge, rx: 6, fill, ...more });
}

function definitions() {
  const gradient = (id, name) =>
    svg("linearGradient", { id, x1: 0, y1: 0, x2: 1, y2: 1 },
      svg("stop", { offset: 0, class: `${name}-light` }), svg("stop", { offset: 1, class: `${name}-dark` }));
  // Noise that is stretched along the board, and kept as brown of varying opacity.
  const grain = svg("filter", { id: "grain", x: 0, y: 0, width: 1, height: 1, "color-interpolation-filters": "sRGB" },
    svg("feTurbulence", { type: "fractalNoise", baseFrequency: "0.06 0.0022", numOctaves: 5, seed: 7 }),
    svg("feColorMatrix", { values: "0 0 0 0 .36  0 0 0 0 .19  0 0 0 0 .05  2.4 0 0 0 -.85" }),
    svg("feComposite", { operator: "in", in2: "SourceGraphic" }));
  return svg("defs", {}, gradient("wood", "wood"), gradient("frame", "frame"), grain);
}

function grid() {
  let lines = "";
  for (let row = 0; row < 10; row += 1) lines += `M${MARGIN} ${MARGIN + row * CELL}H${RIGHT}`;
  for (let column = 1; column < 8; column += 1) {
    const x = MARGIN + column * CELL;
    lines += `M${x} ${MARGIN}v${4 * CELL}m0 ${CELL}v${4 * CELL}`;
  }
  lines += `M${MARGIN} ${MARGIN}V${BOTTOM}M${RIGHT} ${MARGIN}V${BOTTOM}`;
  for (const top of [MARGIN, BOTTOM - 2 * CELL]) {
    const left = MARGIN + 3 * CELL;
    lines += `M${left} ${top}l${2 * CELL} ${2 * CELL}m0 ${-2 * CELL}l${-2 * CELL} ${2 * CELL}`;
  }
  const gap = 11;
  const border = svg("rect", { class: "border", x: MARGIN - gap, y: MARGIN - gap, width: 8 * CELL + 2 * gap,
    height: 9 * CELL + 2 * gap });
  return svg("g", { class: "grid" }, border, svg("path", { d: lines + marks() }));
}

/** Return the corner marks where pawns and cannons begin. */
function marks() {
  const places = [0, 2, 4, 6, 8].flatMap((column) => [[column, 3], [column, 6]]);
  places.push([1, 2], [7, 2], [1, 7], [7, 7]);
  let path = "";
  for (const [column, row] of places) {
    for (const across of [-1, 1]) {
      if (column + across < 0 || column + across > 8) continue;
      for (const along of [-1, 1]) {
        const x = MARGIN + column * CELL + across * 9;
        const y = MARGIN + row * CELL + along * 9;
        path += `M${x + across * 17} ${y}H${x}V${y + along * 17}`;
      }
    }
  }
  return path;
}

function river() {
  const y = HEIGHT / 2 + 20;
  const text = (x, content) => svg("text", { x: MARGIN + x * CELL, y }, content);
  return svg("g", { class: "river", lang: "zh-Hant" },
    text(1.4, "楚"), text(2.4, "河"), text(5.6, "漢"), text(6.6, "界"));
}

function labels(texts, y) {
  return texts.map((text, column) => svg("text", { x: MARGIN + column * CELL, y }, text));
}
