// The pieces, each an element that moves from point to point.
import { centreOf, svg } from "./geometry.js";

const RADIUS = 45;
const GLYPHS = Object.fromEntries([..."KABNRCPkabnrcp"].map((letter, index) => [letter, [..."帥仕相傌俥炮兵將士象馬車砲卒"][index]]));

export function glyphOf(letter) {
  return GLYPHS[letter];
}

export function isRed(letter) {
  return letter === letter.toUpperCase();
}

export class Pieces {
  constructor() {
    this.layer = svg("g", { "aria-hidden": "true", lang: "zh-Hant" });
    this.onSquare = new Map();
  }

  /** Return the gradients that the pieces use. */
  definitions() {
    const stops = (element, ...colours) => {
      colours.forEach(([offset, colour, opacity = 1]) =>
        element.append(svg("stop", { offset, "stop-color": colour, "stop-opacity": opacity })));
      return element;
    };
    return svg("defs", {},
      stops(svg("linearGradient", { id: "side", x1: 0, y1: 0, x2: 0.6, y2: 1 }), [0, "#e9cb96"], [1, "#a87338"]),
      stops(svg("radialGradient", { id: "face", cx: 0.4, cy: 0.32, r: 0.8 }),
        [0, "#fdf2d6"], [0.6, "#f4dfb3"], [1, "#e3bf85"]),
      stops(svg("radialGradient", { id: "shade" }), [0.72, "#1d0d02", 0.55], [1, "#1d0d02", 0]));
  }

  /** Move the pieces to a position, {square: FEN letter}; a piece that only changes its square keeps its element. */
  show(position, flipped) {
    const before = this.onSquare;
    this.onSquare = new Map();
    const spare = [];
    for (const [square, piece] of before) {
      if (position[square] === piece.letter) this.onSquare.set(square, piece);
      else spare.push(piece);
    }
    for (const [square, letter] of Object.entries(position)) {
      if (this.onSquare.has(square)) continue;
      const index = spare.findIndex((piece) => piece.letter === letter);
      const piece = index < 0 ? this.#create(letter) : spare.splice(index, 1)[0];
      // The piece that moves is drawn over the others.
      this.layer.append(piece.element);
      this.onSquare.set(square, piece);
    }
    for (const piece of spare) piece.element.remove();
    for (const square of this.onSquare.keys()) this.place(square, ...centreOf(square, flipped));
  }

  /** Draw the piece of a square around a point. */
  place(square, x, y, dragged = false) {
    const element = this.onSquare.get(square)?.element;
    if (!element) return;
    if (dragged) this.layer.append(element);
    element.classList.toggle("dragged", dragged);
    element.style.transform = `translate(${x}px, ${y}px)${dragged ? " scale(1.12)" : ""}`;
  }

  #create(letter) {
    const element = svg("g", { class: `piece ${isRed(letter) ? "red" : "black"}` },
      svg("circle", { cx: 2, cy: 7, r: RADIUS + 7, fill: "url(#shade)" }),
      svg("circle", { class: "body", cy: 3, r: RADIUS, fill: "url(#side)" }),
      svg("circle", { r: RADIUS - 1.5, fill: "url(#face)" }),
      svg("circle", { class: "groove", cy: 1.2, r: RADIUS - 8 }),
      svg("circle", { class: "ring", r: RADIUS - 8 }),
      // A character's middle lies 0.36 of its size above the base line.
      svg("text", { y: 19.5 }, GLYPHS[letter]));
    return { letter, element };
  }
}
