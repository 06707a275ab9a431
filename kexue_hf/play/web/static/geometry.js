// Where the points of the board lie in its view box, whose neighbouring lines are 100 units apart.
export const CELL = 100;
export const MARGIN = 100;
export const WIDTH = 2 * MARGIN + 8 * CELL;
export const HEIGHT = 2 * MARGIN + 9 * CELL;
export const FILES = "abcdefghi";

/** Return the column and row, from the upper left, of a square such as "h2". */
export function placeOf(square, flipped) {
  const file = FILES.indexOf(square[0]);
  const rank = Number(square[1]);
  return flipped ? [8 - file, rank] : [file, 9 - rank];
}

/** Return the square at a column and row, or null beside the board. */
export function squareAt(column, row, flipped) {
  if (column < 0 || column > 8 || row < 0 || row > 9) return null;
  return flipped ? FILES[8 - column] + row : FILES[column] + (9 - row);
}

/** Return x and y of a square's centre. */
export function centreOf(square, flipped) {
  const [column, row] = placeOf(square, flipped);
  return [MARGIN + column * CELL, MARGIN + row * CELL];
}

/** Return a new SVG element with attributes and children, which may be texts. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
