// The dialog that begins a game.
import { strengthName } from "./labels.js";

const find = (id) => document.getElementById(id);

/** Fill a list with the names of strengths. */
export function fillStrengths(select, strengths, chosen) {
  const options = strengths.map((key) => new Option(strengthName(key), key, false, key === chosen));
  select.replaceChildren(...options);
}

export class NewGameDialog {
  /** onStart: an async function of the fields of a new game; what it throws is shown. onStarted: called after it. */
  constructor({ onStart, onStarted }) {
    this.dialog = find("new-game");
    this.error = find("new-error");
    Object.assign(this, { onStart, onStarted });
    find("new-cancel").addEventListener("click", () => this.dialog.close());
    find("new-start").addEventListener("click", () => this.#start());
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.matches("button, summary, select")) return;
      event.preventDefault();
      this.#start();
    });
  }

  open(strengths, strength) {
    fillStrengths(find("new-strength"), strengths, strength);
    this.error.hidden = true;
    this.dialog.showModal();
  }

  async #start() {
    const chosen = this.dialog.querySelector("input[name=side]:checked").value;
    const side = chosen === "random" ? (Math.random() < 0.5 ? "w" : "b") : chosen;
    const fen = find("new-fen").value.trim();
    try {
      await this.onStart({ side, strength: find("new-strength").value, ...(fen && { fen }) });
      this.dialog.close();
      this.onStarted();
    } catch (error) {
      this.error.textContent = error.message;
      this.error.hidden = false;
    }
  }
}
