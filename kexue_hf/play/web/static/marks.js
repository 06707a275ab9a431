// What is drawn on the board around the pieces: the last move, a check, targets and arrows.
import { centreOf, svg } from "./geometry.js";

export class Marks {
  constructor() {
    this.below = svg("g", { "aria-hidden": "true" });
    this.above = svg("g", { "aria-hidden": "true" });
    this.arrows = svg("g", { "aria-hidden": "true" });
  }

  /**
   * Draw the marks of a state.
   * picked: the chosen square or null. under: the target below a dragged piece, or null.
   */
  show(state, flipped, picked, under) {
    const below = [];
    const above = [];
    if (state.last_move) {
      const [x, y] = centreOf(state.last_move.slice(0, 2), flipped);
      below.push(svg("circle", { class: "last-from", cx: x, cy: y, r: 38 }));
      below.push(this.#disc("last-to", state.last_move.slice(2), flipped, 53));
    }
    if (picked) below.push(this.#disc("picked", picked, flipped, 53));
    if (state.check) above.push(this.#disc("check", state.check, flipped, 49));
    for (const target of (picked && state.targets[picked]) || []) {
      const isCapture = Boolean(state.pieces[target]);
      if (target === under) above.push(this.#disc("target under-pointer", target, flipped, 50));
      else above.push(this.#disc(isCapture ? "target capture" : "target", target, flipped, isCapture ? 50 : 15));
    }
    this.below.replaceChildren(...below);
    this.above.replaceChildren(...above);
  }

  /** Draw an arrow for each move; kind is "hint" or "". */
  showArrows(moves, kind, flipped) {
    this.arrows.replaceChildren(...moves.map((move) => this.#arrow(move, kind, flipped)));
  }

  #disc(name, square, flipped, radius) {
    const [cx, cy] = centreOf(square, flipped);
    return svg("circle", { class: name, cx, cy, r: radius });
  }

  #arrow(move, kind, flipped) {
    const [x, y] = centreOf(move.slice(0, 2), flipped);
    const [endX, endY] = centreOf(move.slice(2), flipped);
    const length = Math.hypot(endX - x, endY - y);
    const angle = (Math.atan2(endY - y, endX - x) * 180) / Math.PI;
    const tip = length - 6;
    const neck = tip - 42;
    const outline = `M14 -8H${neck}V-26L${tip} 0L${neck} 26V8H14A14 14 0 1 1 14 -8z`;
    return svg("path", { class: `arrow ${kind}`, d: outline, transform: `translate(${x} ${y}) rotate(${angle})` });
  }
}
