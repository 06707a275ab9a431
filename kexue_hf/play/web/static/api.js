// The server's answers. See application.py for the requests.

/** A request was refused. `state` is the game's state if another one was expected. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = body?.error?.code ?? "http";
    this.state = body?.state ?? null;
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

function post(path, fields, signal) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(fields), signal });
}

const game = (id, action = "") => `/api/games/${encodeURIComponent(id)}${action}`;

export const api = {
  settings: () => ask("/api/settings"),
  newGame: (fields) => post("/api/games", fields),
  state: (id) => ask(game(id)),
  analysis: (id) => ask(game(id, "/analysis")),
  move: (id, move, revision) => post(game(id, "/move"), { move, revision }),
  undo: (id, revision) => post(game(id, "/undo"), { revision }),
  reply: (id, revision, signal) => post(game(id, "/reply"), { revision }, signal),
  hint: (id, revision, signal) => post(game(id, "/hint"), { revision }, signal),
  strength: (id, strength) => post(game(id, "/strength"), { strength }),
  pgnAddress: (id) => game(id, "/game.pgn"),
};
