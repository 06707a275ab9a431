// Connects the parts of the page.
import { Refused, api } from "./api.js";
import { Board } from "./board.js";
import { pieceName, remember, remembered, switchLanguage, text, writeLabels } from "./labels.js";
import { NewGameDialog, fillStrengths } from "./new_game.js";
import { resultWords, showCandidates, showEvaluation, showMoves, showRemark, showSeat } from "./panels.js";
import { isRed } from "./pieces.js";
import { Session } from "./session.js";

const find = (id) => document.getElementById(id);
const page = { settings: null, analysis: null, hint: null, announced: "", closedBanner: null };

const board = new Board(find("board"), { onMove: (move) => session.move(move), describe: describeSquare });
const session = new Session({ onState, onAnalysis, onHint, onBusy, onError });
const dialog = new NewGameDialog({ onStart: (fields) => session.begin(fields), onStarted: () => board.focus() });

function describeSquare(square, isReachable) {
  const letter = session.state?.pieces[square];
  const content = letter ? `${text("sides")[isRed(letter) ? "w" : "b"]} ${pieceName(letter)}` : text("empty");
  return `${square} ${content}${isReachable ? `, ${text("can_move_here")}` : ""}`;
}

function onState(state) {
  if (location.hash.slice(1) !== state.id) {
    history.replaceState(null, "", `#${state.id}`);
    board.setFlipped(state.side === "b");
  }
  board.show(state);
  showState();
  announce(state);
}

/** Write everything that depends on the state and the language. */
function showState() {
  const { state } = session;
  if (!state) return;
  const seats = board.flipped ? ["b", "w"] : ["w", "b"];
  [find("seat-bottom"), find("seat-top")].forEach((seat, index) => {
    const side = seats[index];
    const isOnMove = !state.outcome && state.turn === side;
    const isPerson = side === state.side;
    const note = isOnMove && (isPerson ? state.check ? "check" : "your_move" : "thinking");
    showSeat(seat, { side, isOnMove, who: text(isPerson ? "you" : "model"), note: note && text(note),
      kind: note === "thinking" ? "busy" : note === "check" ? "alarm" : "" });
  });
  showMoves(find("moves"), state);
  scrollToLastMove();
  find("undo").disabled = !state.can_undo;
  find("hint").disabled = !session.isPersonsTurn;
  find("save").href = api.pgnAddress(state.id);
  fillStrengths(find("strength"), page.settings.strengths, state.strength);
  showBanner(state);
  showThoughts();
}

function scrollToLastMove() {
  find("moves-scroll").scrollTop = find("moves-scroll").scrollHeight;
}

function showBanner(state) {
  const key = `${state.id} ${state.revision}`;
  find("banner").hidden = !state.outcome || page.closedBanner === key;
  if (state.outcome) [find("banner-result").textContent, find("banner-reason").textContent] = resultWords(state.outcome);
}

/** Show the analysis, or the hint instead. */
function showThoughts() {
  const { analysis, hint } = page;
  const isShown = find("show-candidates").checked;
  showEvaluation(find("evaluation"), analysis && analysis.evaluation);
  find("line").hidden = !(hint?.line.length > 1);
  if (hint) find("line").textContent = text("line_is")(hint.line.map(({ chinese }) => chinese).join(" "));
  const candidates = hint?.candidates ?? analysis?.candidates;
  find("candidates").hidden = !isShown && !hint;
  find("candidates-title").textContent = hint
    ? hint.nodes > 1 ? text("hint_title")(hint.nodes, hint.seconds.toFixed(1)) : text("hint_policy")
    : text(isShown ? "candidates_now" : "candidates_hidden");
  if (candidates?.length) showCandidates(find("candidates"), candidates, hint?.move ?? null, pointAt);
  else if (!find("candidates").childElementCount || session.state?.outcome) {
    showRemark(find("candidates"), session.state?.outcome ? "—" : text("no_candidates"));
  }
}

function pointAt(move) {
  if (move) board.showArrows([move]);
  else board.showArrows(page.hint ? [page.hint.move] : [], "hint");
}

function onAnalysis(analysis) {
  // The bars stay until there are new ones, so that they do not flicker while the model thinks.
  if (analysis) page.analysis = analysis;
  page.hint = null;
  showThoughts();
}

function onHint(hint) {
  page.hint = hint;
  showThoughts();
  pointAt(null);
  say(text("hint_is")(hint.chinese));
}

function onBusy(isBusy) {
  find("hint").disabled = isBusy || !session.isPersonsTurn;
  find("hint").setAttribute("aria-busy", String(isBusy));
}

function onError(error) {
  find("error").hidden = !error;
  if (!error) return;
  if (error instanceof Refused) find("error").textContent = error.code === "stale" ? text("stale") : error.message;
  else find("error").textContent = text("no_server");
}

function say(words) {
  find("announcer").textContent = words;
}

/** Say the last move, a check and the result, once. */
function announce(state) {
  const key = `${state.id} ${state.moves.length} ${state.last_move}`;
  if (key === page.announced || !state.moves.length) return;
  page.announced = key;
  const { iccs, chinese } = state.moves.at(-1);
  const [from, to] = [iccs.slice(0, 2), iccs.slice(2)];
  const side = text(isRed(state.pieces[to]) ? "red" : "black");
  const words = [text("played")(side, chinese, from, to, pieceName(state.pieces[to]))];
  if (state.outcome) words.push(...resultWords(state.outcome));
  else if (state.check) words.push(text("check"));
  say(words.join(" "));
}

function writeAll() {
  writeLabels(document);
  document.title = text("title");
  board.svg.setAttribute("aria-label", text("board"));
  find("language").textContent = text("other_language");
  find("language").lang = text("other_language") === "English" ? "en" : "zh";
  if (session.state) board.show(session.state);
  showState();
}

const openDialog = () => dialog.open(page.settings.strengths, find("strength").value);
find("new").addEventListener("click", openDialog);
find("banner-new").addEventListener("click", openDialog);
find("banner-close").addEventListener("click", () => {
  page.closedBanner = `${session.state.id} ${session.state.revision}`;
  find("banner").hidden = true;
});
find("undo").addEventListener("click", () => session.undo());
find("hint").addEventListener("click", () => session.hint());
find("flip").addEventListener("click", () => {
  board.setFlipped(!board.flipped);
  showState();
  pointAt(null);
});
find("strength").addEventListener("change", (event) => session.setStrength(event.target.value));
find("show-candidates").addEventListener("change", (event) => {
  remember("candidates", event.target.checked ? "shown" : "hidden");
  showThoughts();
});
find("language").addEventListener("click", () => {
  switchLanguage();
  writeAll();
});
// The list of moves gets what room the panels above it leave.
new ResizeObserver(scrollToLastMove).observe(find("moves-scroll"));
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") session.refresh();
});

async function start() {
  find("show-candidates").checked = remembered("candidates") !== "hidden";
  page.settings = await api.settings();
  find("model-name").textContent = page.settings.model;
  writeAll();
  const id = location.hash.slice(1);
  try {
    if (id) return await session.resume(id);
  } catch {
    await session.begin({ side: "w", strength: page.settings.default_strength });
    find("error").textContent = text("game_lost");
    find("error").hidden = false;
    return undefined;
  }
  return session.begin({ side: "w", strength: page.settings.default_strength });
}

start().catch(onError);
