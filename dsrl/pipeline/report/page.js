"use strict";
// Texts of models are only ever written as text, never as HTML.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50;
  const FILTERS = {
    items: {
      all: () => true,
      fixed: (r) => r.base_right === false && r.trained_right === true,
      broken: (r) => r.base_right === true && r.trained_right === false,
      "both wrong": (r) => r.base_right === false && r.trained_right === false,
      "both right": (r) => r.base_right === true && r.trained_right === true,
    },
    samples: {
      all: () => true,
      selected: (r) => r.place !== null,
      dropped: (r) => r.dropped !== null,
      "never solved": (r) => r.attempts > 0 && r.passed === 0,
      initial: (r) => r.kind === "initial",
      harder: (r) => r.kind === "harder",
      easier: (r) => r.kind === "easier",
    },
  };
  const SEARCHED = {
    items: ["number", "input", "label", "base", "trained", "domain"],
    samples: ["id", "input", "output", "label", "passage", "domain"],
  };

  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined && text !== null) node.textContent = String(text);
    return node;
  }

  function part(title, text) {
    const box = make("div", "part");
    box.append(make("b", "", title));
    const pre = make("pre", "");
    const isolated = make("bdi", "", text === null || text === undefined || text === "" ? "none" : text);
    pre.append(isolated);
    box.append(pre);
    return box;
  }

  function mark(right) {
    return right === null ? "not answered" : right ? "right" : "wrong";
  }

  function state(kind, row) {
    if (kind === "items") {
      return `${mark(row.base_right)} → ${mark(row.trained_right)}`;
    }
    if (row.dropped) return row.dropped.replaceAll("_", " ");
    const rate = row.attempts ? `${row.passed}/${row.attempts}` : "not scored";
    return row.place ? `${rate}, place ${row.place}` : rate;
  }

  function open(kind, row, box) {
    if (kind === "items") {
      box.append(part("Input", row.input), part("Right answer", row.label));
      const pair = make("div", "pair");
      pair.append(part(`Base model: ${mark(row.base_right)}`, row.base), part(`Trained model: ${mark(row.trained_right)}`, row.trained));
      box.append(pair);
      return;
    }
    box.append(part("Input", row.input), part("Output of the teacher", row.output), part("Label", row.label));
    const votes = Object.entries(row.votes).map(([answer, times]) => `${answer}: ${times}`).join("\n");
    const answers = row.answers.map(([answer, times, right]) => `${answer}: ${times}${right ? " (right)" : ""}`).join("\n");
    const pair = make("div", "pair");
    pair.append(part("Votes of the teacher", votes), part("Attempts of the base model", answers));
    pair.append(part("Mean reward, step by step of the training", row.rewards.join(", ")));
    box.append(pair);
    if (row.parent) box.append(part("Rewritten from", row.parent));
    box.append(part("Passage", row.passage));
  }

  function browse(root) {
    const kind = root.dataset.kind;
    const rows = data[Number(root.dataset.report)][kind];
    const tools = make("div", "tools");
    const select = make("select");
    select.setAttribute("aria-label", "Show");
    for (const [name, keep] of Object.entries(FILTERS[kind])) {
      const option = make("option", "", `${name} (${rows.filter(keep).length})`);
      option.value = name;
      select.append(option);
    }
    const search = make("input");
    search.type = "search";
    search.placeholder = "Search";
    search.setAttribute("aria-label", "Search");
    tools.append(select, search);
    const count = make("p", "count");
    count.setAttribute("aria-live", "polite");
    const list = make("div");
    const more = make("button", "", "Show more");
    more.type = "button";
    root.append(tools, count, list, more);
    let found = [];
    let shown = 0;

    function show() {
      for (const row of found.slice(shown, shown + PAGE)) {
        const line = make("details", "row");
        const head = make("summary");
        head.append(make("span", "id", kind === "items" ? row.number : row.id));
        const isBad = kind === "items" ? row.trained_right === false : Boolean(row.dropped);
        head.append(make("span", isBad ? "state wrong" : "state", state(kind, row)));
        const text = make("span", "text");
        text.append(make("bdi", "", row.input));
        head.append(text);
        line.append(head);
        line.addEventListener("toggle", () => {
          if (line.open && line.childElementCount === 1) open(kind, row, line);
        });
        list.append(line);
      }
      shown = Math.min(found.length, shown + PAGE);
      more.hidden = shown >= found.length;
      count.textContent = `${found.length} of ${rows.length}, ${shown} shown`;
    }

    function update() {
      const words = search.value.toLowerCase();
      const keep = FILTERS[kind][select.value];
      found = rows.filter((row) => keep(row) && (!words || SEARCHED[kind].some((key) => String(row[key] ?? "").toLowerCase().includes(words))));
      list.replaceChildren();
      shown = 0;
      show();
    }

    select.addEventListener("change", update);
    search.addEventListener("input", update);
    more.addEventListener("click", show);
    update();
  }

  // While a run is under way, the server's page is loaded again. What the reader has chosen, and where, stays.
  const list = (names) => [...document.querySelectorAll(names)];
  const listFields = () => list(".browser select, .browser input");
  const REST = 2000; // milliseconds without a key or a click, before the page is loaded again

  function reload() {
    const fields = listFields();
    const kept = {
      values: fields.map((field) => field.value),
      focus: fields.indexOf(document.activeElement),
      open: list("details").map((each) => each.open),
      top: scrollY,
    };
    sessionStorage.setItem(location.pathname, JSON.stringify(kept));
    location.reload();
  }

  function restore() {
    const kept = JSON.parse(sessionStorage.getItem(location.pathname) ?? "null");
    if (!kept) return;
    sessionStorage.removeItem(location.pathname);
    const fields = listFields();
    fields.forEach((field, place) => {
      if (!kept.values[place]) return;
      field.value = kept.values[place];
      field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input"));
    });
    list("details").forEach((each, place) => { each.open = Boolean(kept.open[place]); });
    fields[kept.focus]?.focus({ preventScroll: true });
    scrollTo(0, kept.top);
  }

  function keepLoading(seconds) {
    let touched = 0;
    for (const name of ["keydown", "pointerdown"]) addEventListener(name, () => { touched = Date.now(); });
    const wait = () => (Date.now() - touched < REST ? setTimeout(wait, REST) : reload());
    setTimeout(wait, seconds * 1000);
  }

  list(".browser").forEach(browse);
  if (location.protocol === "http:") restore(); // a file is never loaded again by itself
  if (document.body.dataset.reload) keepLoading(Number(document.body.dataset.reload));
})();
