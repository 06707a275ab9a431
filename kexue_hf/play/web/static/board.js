// The board that a person plays on, with a mouse, a finger or the keyboard.
import { drawBoard } from "./board_art.js";
import { CELL, HEIGHT, MARGIN, WIDTH, placeOf, squareAt, svg } from "./geometry.js";
import { Marks } from "./marks.js";
import { Pieces } from "./pieces.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
// A pointer that moves less, in CSS pixels, is a click.
const DRAG_DISTANCE = 6;

export class Board {
  /**
   * container: the element to draw in.
   * onMove: called with a legal move such as "h2e2", which the board then shows until the next state.
   * describe: returns the spoken name of a square.
   */
  constructor(container, { onMove, describe }) {
    Object.assign(this, { container, onMove, describe });
    this.flipped = false;
    this.state = null;
    this.picked = null;
    this.press = null;
    this.cursor = "e0";
    this.pieces = new Pieces();
    this.marks = new Marks();
    const { art, setLabels } = drawBoard();
    this.setLabels = setLabels;
    this.cells = new Map();
    this.grid = svg("g");
    this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "grid", "aria-rowcount": 10, "aria-colcount": 9 },
      this.pieces.definitions(), this.marks.below, this.pieces.layer, this.marks.above, this.marks.arrows, this.grid);
    container.prepend(art, this.svg);
    this.#makeCells();
    this.svg.addEventListener("pointerdown", (event) => this.#down(event));
    this.svg.addEventListener("pointermove", (event) => this.#drag(event));
    this.svg.addEventListener("pointerup", (event) => this.#up(event));
    this.svg.addEventListener("pointercancel", () => this.#letGo());
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    this.svg.addEventListener("focusin", (event) => this.#moveCursor(event.target.dataset.square));
  }

  /** Show a state of the game; it forgets the picked piece if the position is another. */
  show(state) {
    if (this.state?.id !== state.id || this.state.revision !== state.revision) {
      this.picked = null;
      this.press = null;
      this.marks.showArrows([], "", this.flipped);
    }
    this.state = state;
    this.#draw();
  }

  setFlipped(flipped) {
    this.flipped = flipped;
    this.marks.showArrows([], "", flipped);
    this.#makeCells();
    this.#draw();
  }

  /** Draw arrows for moves, instead of those before. */
  showArrows(moves, kind = "") {
    this.marks.showArrows(moves, kind, this.flipped);
  }

  /** Put the keyboard on the board. */
  focus() {
    this.cells.get(this.cursor).focus({ preventScroll: true });
  }

  #draw(under = null) {
    if (!this.state) return;
    this.setLabels(this.flipped);
    this.pieces.show(this.state.pieces, this.flipped);
    this.marks.show(this.state, this.flipped, this.picked, under);
    const reachable = this.#targets();
    for (const [square, cell] of this.cells) {
      cell.setAttribute("class", `cell${square in this.state.targets ? " movable" : ""}${
        reachable.includes(square) ? " reachable" : ""}`);
      cell.setAttribute("aria-label", this.describe(square, reachable.includes(square)));
      cell.setAttribute("aria-selected", String(square === this.picked));
    }
  }

  /** Make a transparent cell for each point, row by row as they are seen. */
  #makeCells() {
    const focused = this.grid.contains(document.activeElement);
    this.cells.clear();
    const rows = Array.from({ length: 10 }, (_, row) => {
      const cells = Array.from({ length: 9 }, (_, column) => {
        const square = squareAt(column, row, this.flipped);
        const cell = svg("rect", { x: MARGIN + (column - 0.5) * CELL + 3, y: MARGIN + (row - 0.5) * CELL + 3, rx: 10,
          width: CELL - 6, height: CELL - 6, class: "cell", role: "gridcell", tabindex: -1, "data-square": square });
        this.cells.set(square, cell);
        return cell;
      });
      return svg("g", { role: "row" }, ...cells);
    });
    this.grid.replaceChildren(...rows);
    this.cells.get(this.cursor).setAttribute("tabindex", 0);
    if (focused) this.focus();
  }

  #targets() {
    return (this.picked && this.state.targets[this.picked]) || [];
  }

  #pick(square) {
    this.picked = square;
    this.#draw();
  }

  #move(target) {
    const move = this.picked + target;
    const { [this.picked]: letter, ...pieces } = this.state.pieces;
    this.picked = null;
    // Shown at once; the state that the server answers with replaces it.
    this.state = { ...this.state, pieces: { ...pieces, [target]: letter }, targets: {}, last_move: move, check: null };
    this.marks.showArrows([], "", this.flipped);
    this.#draw();
    this.onMove(move);
  }

  #pointOf(event) {
    const box = this.svg.getBoundingClientRect();
    return [((event.clientX - box.left) * WIDTH) / box.width, ((event.clientY - box.top) * HEIGHT) / box.height];
  }

  #squareUnder(event) {
    const [x, y] = this.#pointOf(event);
    return squareAt(Math.round((x - MARGIN) / CELL), Math.round((y - MARGIN) / CELL), this.flipped);
  }

  #down(event) {
    if (!this.state || event.button !== 0 || this.press) return;
    const square = this.#squareUnder(event);
    if (!square) return;
    if (this.#targets().includes(square)) {
      this.#move(square);
    } else if (square in this.state.targets) {
      this.press = { square, x: event.clientX, y: event.clientY, again: this.picked === square, dragging: false };
      this.svg.setPointerCapture(event.pointerId);
      this.#pick(square);
    } else {
      this.#pick(null);
    }
  }

  #drag(event) {
    const { press } = this;
    if (!press) return;
    if (!press.dragging && Math.hypot(event.clientX - press.x, event.clientY - press.y) < DRAG_DISTANCE) return;
    press.dragging = true;
    this.container.classList.add("dragging");
    const square = this.#squareUnder(event);
    this.marks.show(this.state, this.flipped, this.picked, this.#targets().includes(square) ? square : null);
    this.pieces.place(press.square, ...this.#pointOf(event), true);
  }

  #up(event) {
    const { press } = this;
    if (!press) return;
    const square = this.#squareUnder(event);
    const dropped = press.dragging && this.#targets().includes(square);
    this.#letGo();
    if (dropped) this.#move(square);
    else if (!press.dragging && press.again) this.#pick(null);
  }

  #letGo() {
    this.press = null;
    this.container.classList.remove("dragging");
    this.#draw();
  }

  #moveCursor(square) {
    if (!square || square === this.cursor) return;
    this.cells.get(this.cursor).setAttribute("tabindex", -1);
    this.cursor = square;
    this.cells.get(square).setAttribute("tabindex", 0);
  }

  #key(event) {
    if (!this.state || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step) {
      const [column, row] = placeOf(this.cursor, this.flipped);
      const square = squareAt(column + step[0], row + step[1], this.flipped);
      if (square) this.cells.get(square).focus();
    } else if (event.key === "Enter" || event.key === " ") {
      if (this.#targets().includes(this.cursor)) this.#move(this.cursor);
      else this.#pick(this.cursor in this.state.targets && this.cursor !== this.picked ? this.cursor : null);
    } else if (event.key === "Escape" && this.picked) {
      this.#letGo();
      this.#pick(null);
    } else {
      return;
    }
    event.preventDefault();
  }
}

