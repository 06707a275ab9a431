// The side column: evaluation, candidates, moves; and the banner over the board.
import { isChinese, text } from "./labels.js";

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}%`;
const rounded = (share) => `${Math.round(100 * share)}%`;

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

/** Show the probabilities that Red wins, of a draw, and that Black wins; null shows nothing. */
export function showEvaluation(bar, shares) {
  const parts = [...bar.children];
  parts.forEach((part, index) => {
    const share = shares ? shares[index] : 0;
    part.style.flexGrow = String(shares ? share : 1);
    part.textContent = share >= 0.16 ? `${text("short_shares")[index]} ${rounded(share)}` : share >= 0.1 ? rounded(share) : "";
    part.hidden = !shares || share <= 0;
  });
  bar.setAttribute("aria-label", shares ? text("evaluation_is")(...shares.map(rounded)) : text("evaluation"));
  bar.title = bar.getAttribute("aria-label");
}

/**
 * List candidates with bars.
 * candidates: of an analysis or of a hint, whose order is that of the search.
 * best: the move to mark, or null.
 * onPoint: called with a move while it is pointed at or focused, then with null.
 */
export function showCandidates(list, candidates, best, onPoint) {
  const most = Math.max(...candidates.map(({ probability }) => probability), 1e-9);
  const rows = candidates.map((candidate) => {
    const share = candidate.probability;
    const name = element("span", "name", candidate.chinese);
    name.lang = "zh";
    const bar = element("div", candidate.move === best ? "bar best" : "bar");
    bar.style.width = `${(100 * share) / most}%`;
    const button = element("button", "", name, element("div", "track", bar), element("span", "share", percent(share)));
    button.type = "button";
    button.dataset.move = candidate.move;
    button.title = candidate.move;
    for (const type of ["pointerenter", "focus", "click"]) {
      button.addEventListener(type, () => onPoint(candidate.move));
    }
    for (const type of ["pointerleave", "blur"]) button.addEventListener(type, () => onPoint(null));
    return element("li", "", button);
  });
  list.replaceChildren(...rows);
}

/** Put a remark in place of the candidates. */
export function showRemark(list, remark) {
  list.replaceChildren(element("li", "note", remark));
}

/** List the moves in two columns, numbered as in the FEN that the game began with. */
export function showMoves(body, state) {
  const cells = state.moves.map(({ iccs, chinese }, index) => {
    const cell = element("td", index === state.moves.length - 1 ? "last" : "", chinese);
    cell.lang = "zh";
    if (!isChinese()) cell.append(" ", element("small", "", `${iccs.slice(0, 2)}-${iccs.slice(2)}`));
    return cell;
  });
  if (state.first.turn === "b" && cells.length) cells.unshift(element("td", "", "…"));
  const rows = [];
  for (let index = 0; index < cells.length; index += 2) {
    const number = element("td", "", String(state.first.number + index / 2));
    rows.push(element("tr", "", number, ...cells.slice(index, index + 2)));
  }
  body.replaceChildren(...rows);
}

/** Show who sits at one side of the board. note: what that side is doing; kind: "busy", "alarm" or "". */
export function showSeat(seat, { side, who, isOnMove, note, kind }) {
  seat.className = `seat ${side === "w" ? "red" : "black"}${isOnMove ? " on-move" : ""}`;
  const stone = element("span", "stone");
  seat.replaceChildren(stone, element("span", "", `${text(side === "w" ? "red" : "black")} · ${who}`));
  if (note) seat.append(element("span", `note ${kind}`, note));
}

/** Return the result in words: [who wins, why]. */
export function resultWords({ winner, reason }) {
  const result = { w: "red_wins", b: "black_wins" }[winner] ?? "drawn";
  return [text(result), text("reasons")[reason] ?? reason];
}
