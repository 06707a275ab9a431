// One game as the page follows it: asks the server, and tells the page what has changed.
import { Refused, api } from "./api.js";

const RETRY_MILLISECONDS = 500;

export class Session {
  /**
   * onState: called with each new state. onAnalysis: with the model's judgement of it, or null until it is known.
   * onHint: with a search for the person. onBusy: with whether a hint is being looked for.
   * onError: with an error, or null when a request has succeeded.
   */
  constructor({ onState, onAnalysis, onHint, onBusy, onError }) {
    Object.assign(this, { onState, onAnalysis, onHint, onBusy, onError });
    this.state = null;
    this.search = null;
  }

  /** Begin a game; raises Refused if the server does not accept it. */
  async begin(fields) {
    const state = await api.newGame(fields);
    this.#open(state);
  }

  /** Continue a game that the server still has; raises Refused if it does not. */
  async resume(id) {
    this.#open(await api.state(id));
  }

  get isPersonsTurn() {
    return this.state !== null && !this.state.outcome && this.state.turn === this.state.side;
  }

  async move(move) {
    this.#stopSearch();
    await this.#change((id, revision) => api.move(id, move, revision));
  }

  async undo() {
    this.#stopSearch();
    await this.#change((id, revision) => api.undo(id, revision));
  }

  async setStrength(strength) {
    await this.#change((id) => api.strength(id, strength));
  }

  /** Look whether another page has changed the game. */
  async refresh() {
    if (this.state) await this.#change((id) => api.state(id));
  }

  async hint() {
    if (this.search || !this.isPersonsTurn) return;
    const { id } = this.state;
    const search = (this.search = new AbortController());
    this.onBusy(true);
    try {
      const { choice, ...state } = await api.hint(id, this.state.revision, search.signal);
      if (this.#accept(state)) this.onHint(choice);
    } catch (error) {
      this.#fail(error, id);
    } finally {
      if (this.search === search) this.search = null;
      this.onBusy(false);
    }
  }

  #open(state) {
    this.#stopSearch();
    this.state = null;
    this.#accept(state);
  }

  #stopSearch() {
    this.search?.abort();
    this.search = null;
  }

  async #change(request) {
    const { id, revision } = this.state;
    try {
      const state = await request(id, revision);
      this.onError(null);
      this.#accept(state);
    } catch (error) {
      this.#fail(error, id);
    }
  }

  /** Show a state unless it is of another game or older than the one that is shown. */
  #accept(state) {
    if (this.state && (state.id !== this.state.id || state.revision < this.state.revision)) return false;
    const isNew = !this.state || state.revision !== this.state.revision;
    this.state = state;
    this.onState(state);
    if (isNew) {
      this.onAnalysis(null);
      if (state.outcome || this.isPersonsTurn) this.#analyse();
    }
    if (!state.outcome && !this.isPersonsTurn) this.#reply();
    return true;
  }

  async #analyse() {
    const { id } = this.state;
    try {
      const analysis = await api.analysis(id);
      if (this.state.id === id && this.state.revision === analysis.revision) this.onAnalysis(analysis);
    } catch (error) {
      this.#fail(error, id);
    }
  }

  /** Ask for the model's move, unless that has been done. */
  async #reply() {
    if (this.search) return;
    const { id, revision } = this.state;
    const search = (this.search = new AbortController());
    try {
      const state = await api.reply(id, revision, search.signal);
      this.search = null;
      this.#accept(state);
    } catch (error) {
      if (search.signal.aborted) return;
      if (["thinking", "stopped", "busy"].includes(error.code)) {
        // Another page has asked before, or this one before it was loaded again; or too many games wait.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
        if (this.search === search) this.search = null;
        if (this.state.id === id) await this.refresh();
        return;
      }
      this.search = null;
      this.#fail(error, id);
    }
  }

  #fail(error, id) {
    if (error.name === "AbortError" || this.state?.id !== id) return;
    this.onError(error);
    if (error instanceof Refused && error.state) this.#accept(error.state);
    else this.onState(this.state);
  }
}
