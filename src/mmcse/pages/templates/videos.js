// Looking at single videos: choose one, see what is there beside what was predicted, and every probability.
"use strict";
(async () => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("video-data").textContent);
  const { ids, classes, segments: T } = data;
  const [N, K] = [ids.length, classes.length];
  const STREAMS = ["audible", "visible"];
  const NOT_A_NUMBER = 0xffff;
  const WORDS = { correct: "correct", missed: "missed", false: "false", none: "neither there nor predicted" };
  const MARKS = { correct: "●", missed: "○", false: "✕", none: "" };

  // --- Data: compressed integers, see video_data() in mmcse/pages/videos.py.
  async function unpack(text, Numbers) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Numbers(await new Response(stream).arrayBuffer());
  }
  const bit = (bytes, index) => (bytes[index >> 3] >> (index & 7)) & 1;
  const at = (n, t, stream, k) => ((n * T + t) * 2 + stream) * K + k;
  const probability = (value) => (value === NOT_A_NUMBER ? "not a number" : (value / 1000).toFixed(3));

  const [truth, weak] = await Promise.all([unpack(data.truth, Uint8Array), unpack(data.weak, Uint8Array)]);
  const loaded = new Map();
  async function load(index) {
    if (!loaded.has(index)) {
      const run = data.runs[index];
      const [segment, video, predicted, scores] = await Promise.all([
        unpack(run.segment, Uint16Array), run.video && unpack(run.video, Uint16Array),
        unpack(run.predicted, Uint8Array), unpack(run.scores, Uint16Array),
      ]);
      loaded.set(index, { ...run, segment, video, predicted, scores, counts: count(predicted) });
    }
    return loaded.get(index);
  }
  const outcome = (predicted, index) =>
    ["none", "false", "missed", "correct"][2 * bit(truth, index) + bit(predicted, index)];

  // Segments of each video and event that are correct, missed and false.
  function count(predicted) {
    const counts = { correct: new Uint16Array(N * K), missed: new Uint16Array(N * K), false: new Uint16Array(N * K) };
    for (let n = 0, index = 0; n < N; n++)
      for (let segment = 0; segment < 2 * T; segment++)
        for (let k = 0; k < K; k++, index++) {
          const found = outcome(predicted, index);
          if (found !== "none") counts[found][n * K + k]++;
        }
    return counts;
  }

  // --- State: what is chosen.
  let run = await load(0);
  let shown = []; // videos that pass the filters, in order
  let video = 0;
  const chosenEvents = () => ($("event").value === "" ? classes.keys() : [Number($("event").value)]);
  const total = (kind, n) => [...chosenEvents()].reduce((sum, k) => sum + run.counts[kind][n * K + k], 0);
  const score = (n) => run.scores[n * data.score_keys.length + data.score_keys.length - 1] / 100;

  const FILTERS = {
    any: (n) => $("event").value === "" || total("correct", n) + total("missed", n) + total("false", n) > 0,
    true: (n) => total("correct", n) + total("missed", n) > 0,
    correct: (n) => total("correct", n) > 0,
    missed: (n) => total("missed", n) > 0,
    false: (n) => total("false", n) > 0,
  };
  const ORDERS = {
    low: (a, b) => score(a) - score(b),
    high: (a, b) => score(b) - score(a),
    missed: (a, b) => total("missed", b) - total("missed", a),
    false: (a, b) => total("false", b) - total("false", a),
    id: (a, b) => (ids[a] < ids[b] ? -1 : 1),
  };

  // --- Elements.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function list() {
    const words = $("search").value.trim().toLowerCase();
    shown = [...ids.keys()]
      .filter((n) => ids[n].toLowerCase().includes(words) && FILTERS[$("outcome").value](n))
      .sort(ORDERS[$("order").value]);
    $("list").replaceChildren(
      ...shown.map((n) => make("option", { value: n }, `${score(n).toFixed(1).padStart(5, "\u2007")}  ${ids[n]}`)),
    );
    $("found").textContent = `${shown.length} of ${N} videos`;
    show(shown.includes(video) ? video : shown[0]);
  }

  function show(n) {
    const position = shown.indexOf(n);
    $("previous").disabled = position <= 0;
    $("next").disabled = position < 0 || position === shown.length - 1;
    hideTip();
    if (n === undefined) {
      $("video-name").textContent = "No video passes these filters.";
      $("video-labels").textContent = "";
      for (const table of document.querySelectorAll("#timelines .scroll")) table.remove();
      return $("video-scores").replaceChildren();
    }
    video = n;
    $("list").value = n;
    $("video-name").textContent = ids[n];
    const labels = classes.filter((_, k) => bit(weak, n * K + k));
    $("video-labels").textContent = `Labelled: ${labels.join(", ") || "no event"}.`;
    const rows = $("all-classes").checked ? [...classes.keys()] : [...classes.keys()].filter((k) => concerns(n, k));
    for (const table of document.querySelectorAll("#timelines .scroll")) table.remove();
    $("timelines").append(...STREAMS.map((_, stream) => timeline(n, stream, rows)));
    const first = document.querySelector("#timelines td");
    if (first) first.tabIndex = 0;
    $("video-scores").replaceChildren(scoreTable(n));
    try {
      history.replaceState(null, "", `#video=${encodeURIComponent(ids[n])}`);
    } catch { /* some browsers keep the address of a local file as it is */ }
  }

  const concerns = (n, k) =>
    ["correct", "missed", "false"].some((kind) => run.counts[kind][n * K + k]) || $("event").value === String(k);

  function timeline(n, stream, rows) {
    const counts = { correct: 0, missed: 0, false: 0, none: 0 };
    const body = rows.map((k) =>
      make("tr", { "data-class": k },
        make("th", { scope: "row" }, make("span", {}, classes[k]), wholeVideo(n, stream, k)),
        ...Array.from({ length: T }, (_, t) => {
          const found = outcome(run.predicted, at(n, t, stream, k));
          counts[found]++;
          return cell(n, t, stream, k, found);
        })));
    const found = `: ${counts.correct} segments correct, ${counts.missed} missed, ${counts.false} false`;
    const seconds = Array.from({ length: T }, (_, t) =>
      make("th", { scope: "col" }, make("span", { class: "visually-hidden" }, "second "), String(t + 1)));
    return make("div", { class: "scroll" },
      make("table", { role: "grid", class: "timeline", style: `--segments: ${T}` },
        make("caption", {}, make("span", {}, `What is ${STREAMS[stream]}`, make("small", {}, found))),
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "event"), ...seconds)),
        make("tbody", {}, ...(rows.length ? body : [emptyRow()]))));
  }

  const emptyRow = () => make("tr", {}, make("th", { scope: "row" }, "nothing"), make("td", { colspan: T, class: "text" }));

  function wholeVideo(n, stream, k) {
    if (!run.video) return "";
    const text = probability(run.video[(n * 2 + stream) * K + k]);
    return make("small", {}, make("span", { class: "visually-hidden" }, ", whole video "), text);
  }

  function cell(n, t, stream, k, found) {
    const value = run.segment[at(n, t, stream, k)];
    const element = make("td", { class: "slot", tabindex: -1, "data-t": t, "data-stream": stream, "data-class": k },
      make("span", { class: `cell ${found}`, "aria-hidden": "true" }, MARKS[found]),
      make("span", { class: "bar", "aria-hidden": "true" }),
      make("span", { class: "visually-hidden" }, `${probability(value)}, ${WORDS[found]}`));
    element.style.setProperty("--p", value === NOT_A_NUMBER ? 0 : value / 1000);
    return element;
  }

  function scoreTable(n) {
    const width = data.score_keys.length;
    const number = (i) => make("td", {}, (run.scores[n * width + i] / 100).toFixed(1));
    const heads = data.score_keys.slice(0, 5).map((key) => make("th", { scope: "col" }, key.split("/")[1]));
    const rows = ["segment", "event"].map((level, i) =>
      make("tr", {}, make("th", { scope: "row" }, level), ...[0, 1, 2, 3, 4].map((j) => number(5 * i + j))));
    return make("div", { class: "scroll" }, make("table", {},
      make("caption", {}, make("span", {}, `Scores of this video; their mean is ${score(n).toFixed(1)}`)),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "level"), ...heads)), make("tbody", {}, ...rows)));
  }

  // --- Numbers beside the pointer, or beside the focus.
  function showTip(slot) {
    const [t, stream, k] = ["t", "stream", "class"].map((name) => Number(slot.dataset[name]));
    const index = at(video, t, stream, k);
    const value = run.segment[index];
    const found = outcome(run.predicted, index);
    const heldBack = value !== NOT_A_NUMBER && value > 1000 * run.threshold && !bit(run.predicted, index);
    const lines = [
      make("strong", {}, `${classes[k]}, ${STREAMS[stream]}, ${t} to ${t + 1} s`),
      `probability ${probability(value)}`,
      ...(run.video ? [`whole video ${probability(run.video[(video * 2 + stream) * K + k])}`] : []),
      WORDS[found] + (heldBack ? ", held back by the whole video" : ""),
    ];
    $("tip").replaceChildren(...lines.map((line) => make("div", {}, line)));
    $("tip").hidden = false;
    const [box, place, size] = [slot, $("timelines"), $("tip")].map((element) => element.getBoundingClientRect());
    const left = Math.min(box.left - place.left, place.width - size.width);
    const above = box.top - place.top - size.height - 4;
    $("tip").style.translate = `${Math.max(0, left)}px ${above < -40 ? box.bottom - place.top + 4 : above}px`;
  }
  function hideTip() {
    $("tip").hidden = true;
  }
  const slotOf = (event) => event.target.closest("td.slot");

  // --- What the reader does.
  function step(by) {
    const next = shown[shown.indexOf(video) + by];
    if (next !== undefined) show(next);
  }
  function focus(slot) {
    if (!slot) return;
    for (const other of document.querySelectorAll("#timelines td[tabindex='0']")) other.tabIndex = -1;
    slot.tabIndex = 0;
    slot.focus();
  }
  function move(event) {
    const slot = slotOf(event);
    if (!slot) return;
    const rows = [...document.querySelectorAll("#timelines tbody tr")];
    const row = rows.indexOf(slot.parentElement);
    const t = Number(slot.dataset.t);
    const to = {
      ArrowLeft: [row, t - 1], ArrowRight: [row, t + 1], ArrowUp: [row - 1, t], ArrowDown: [row + 1, t],
      Home: [row, 0], End: [row, T - 1], PageUp: [row, t, -1], PageDown: [row, t, 1],
    }[event.key];
    if (event.key === "Escape") hideTip();
    if (!to) return;
    event.preventDefault();
    if (!to[2]) return focus(rows[to[0]]?.querySelectorAll("td.slot")[to[1]]);
    step(to[2]);
    const after = [...document.querySelectorAll("#timelines tbody tr")];
    focus(after[Math.min(row, after.length - 1)]?.querySelectorAll("td.slot")[t]);
  }

  $("run").addEventListener("change", async () => {
    run = await load(Number($("run").value));
    list();
  });
  for (const id of ["event", "outcome", "order"]) $(id).addEventListener("change", list);
  $("search").addEventListener("input", list);
  $("list").addEventListener("change", () => show(Number($("list").value)));
  $("all-classes").addEventListener("change", () => show(shown.includes(video) ? video : shown[0]));
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("timelines").addEventListener("keydown", move);
  $("timelines").addEventListener("pointerover", (event) => (slotOf(event) ? showTip(slotOf(event)) : hideTip()));
  $("timelines").addEventListener("pointerleave", hideTip);
  $("timelines").addEventListener("focusin", (event) => slotOf(event) && showTip(slotOf(event)));
  $("timelines").addEventListener("focusout", hideTip);

  const asked = decodeURIComponent(location.hash.match(/^#video=(.*)/)?.[1] ?? "");
  video = ids.indexOf(asked);
  $("explorer").hidden = false;
  list();
})();
