// The words of the page in Chinese and English.
const TEXTS = {
  zh: {
    title: "象棋", other_language: "English", board: "棋盘", controls: "操作", evaluation: "局面评估", moves: "着法记录",
    candidates: "候选着法", show: "显示", red: "红方", black: "黑方", you: "您", model: "模型",
    new_game: "新对局", new_short: "新局", undo: "悔棋", hint: "提示", flip: "翻转", save: "存谱", strength: "棋力",
    your_side: "您执", red_first: "红方（先走）", black_second: "黑方（后走）", random: "随机", from_position: "自定义局面",
    cancel: "取消", start: "开始", show_board: "看棋盘", thinking: "思考中", your_move: "请走棋", check: "将军！",
    candidates_now: "模型对当前局面的候选着法", candidates_hidden: "候选着法", no_candidates: "轮到您时显示",
    hint_title: (nodes, seconds) => `提示：搜索 ${nodes} 个节点，${seconds} 秒`, hint_policy: "提示：模型首选",
    policy: "仅策略网络", nodes: (count) => `搜索 ${count} 个节点`, seconds: (count) => `思考 ${count} 秒`,
    red_wins: "红胜", black_wins: "黑胜", drawn: "和棋", can_move_here: "可走到", empty: "空",
    evaluation_is: (red, draw, black) => `红胜 ${red}，和棋 ${draw}，黑胜 ${black}`,
    played: (side, chinese) => `${side}：${chinese}`, hint_is: (chinese) => `建议：${chinese}`, line_is: (line) => `预计：${line}`, short_shares: ["红胜", "和", "黑胜"],
    game_lost: "服务器上已没有这盘棋，已开始新对局。", no_server: "连接不到服务器：它还在运行吗？",
    stale: "这盘棋在别处有改动，已刷新。",
    reasons: {
      checkmate: "将死", stalemate: "困毙", "perpetual check": "对方长将作负", "perpetual chase": "对方长捉作负",
      repetition: "局面重复三次", "no capture": "六十回合内没有吃子", "no attackers": "双方都没有进攻子力",
    },
    names: { k: "将", a: "士", b: "象", n: "马", r: "车", c: "炮", p: "卒", K: "帅", A: "仕", B: "相", N: "马", R: "车",
      C: "炮", P: "兵" },
    sides: { w: "红", b: "黑" },
  },
  en: {
    title: "Xiangqi", other_language: "中文", board: "Board", controls: "Controls", evaluation: "Evaluation",
    moves: "Moves", candidates: "Candidate moves", show: "Show", red: "Red", black: "Black", you: "You", model: "Model",
    new_game: "New game", new_short: "New", undo: "Undo", hint: "Hint", flip: "Flip", save: "Save",
    strength: "Strength", your_side: "You play", red_first: "Red, moves first", black_second: "Black, moves second",
    random: "Random", from_position: "From another position", cancel: "Cancel", start: "Start", show_board: "See board",
    thinking: "Thinking", your_move: "Your move", check: "Check!",
    candidates_now: "The model's moves in this position", candidates_hidden: "The model's moves",
    no_candidates: "Shown when it is your turn",
    hint_title: (nodes, seconds) => `Hint: ${nodes} nodes in ${seconds} s`, hint_policy: "Hint: the model's first choice",
    policy: "Policy only, no search", nodes: (count) => `Search ${count} nodes`,
    seconds: (count) => `Think ${count} second${count === "1" ? "" : "s"}`,
    red_wins: "Red wins", black_wins: "Black wins", drawn: "Draw", can_move_here: "can move here", empty: "empty",
    evaluation_is: (red, draw, black) => `Red wins ${red}, draw ${draw}, Black wins ${black}`,
    played: (side, chinese, from, to, name) => `${side}: ${name} ${from} to ${to}, ${chinese}`,
    hint_is: (chinese) => `Hint: ${chinese}`,
    line_is: (line) => `Expected: ${line}`, short_shares: ["Red", "Draw", "Black"],
    game_lost: "The server no longer has this game; a new one was begun.",
    no_server: "The server does not answer. Is it still running?",
    stale: "This game was changed elsewhere; the page shows it now.",
    reasons: {
      checkmate: "Checkmate", stalemate: "Stalemate", "perpetual check": "The other side gave perpetual check",
      "perpetual chase": "The other side chased perpetually", repetition: "Third repetition",
      "no capture": "60 moves without a capture", "no attackers": "Neither side can attack",
    },
    names: { k: "king", a: "advisor", b: "elephant", n: "horse", r: "chariot", c: "cannon", p: "soldier" },
    sides: { w: "Red", b: "Black" },
  },
};

let language = initialLanguage();

function initialLanguage() {
  const saved = remembered("language");
  if (saved in TEXTS) return saved;
  return (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Return the text, or the function that makes it, of a key. */
export function text(key) {
  return TEXTS[language][key];
}

export function isChinese() {
  return language === "zh";
}

/** Return the name of a piece by its FEN letter, without its side. */
export function pieceName(letter) {
  const { names } = TEXTS[language];
  return names[letter] ?? names[letter.toLowerCase()];
}

/** Return the name of a strength such as "nodes-200". */
export function strengthName(key) {
  const [kind, count] = key.split("-");
  return count ? text(kind)(count) : text(key);
}

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  remember("language", language);
}

/** Write the words of the present language into the elements that ask for them. */
export function writeLabels(root) {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
}

/** Return a choice that the browser keeps between visits, if it allows that. */
export function remembered(name) {
  try {
    return localStorage.getItem(`xiangqi-${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`xiangqi-${name}`, value);
  } catch {
    // Without storage the choice holds for this visit.
  }
}
