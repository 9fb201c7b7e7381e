"use strict";
// The page: what is looked at, and what follows from clicks, keys and the slider.
(() => {
  const POSITIONS = 200, LEAST = 1e-4;
  const state = { dataset: 0, frame: 0, by: 0, point: null, turn: 0, list: [], cards: [], panels: null, frames: [] };

  // ---- the slider's place ----------------------------------------------------------------------------------------------
  const current = () => data.datasets[state.dataset];
  const target = () => LEAST ** (1 - Number(byId("slider").value) / POSITIONS);
  function level(method) {
    const wanted = target() * (1 + 1e-9);
    let k = 0;
    while (k < method.fpr.length && method.fpr[k] > wanted) k++;
    return k;
  }

  // ---- the frame in view ----------------------------------------------------------------------------------------------
  function panel(kind, title, over) {
    const figure = make("figure"), stack = make("div", "stack"), caption = make("figcaption");
    const image = over || kind === "photo" ? make("img") : null;
    const canvas = kind === "photo" ? null : make("canvas", over ? "over" : "");
    if (image) stack.append(image);
    if (canvas) {
      canvas.setAttribute("role", "img");
      stack.append(canvas);
    }
    const cross = make("span", "cross");
    cross.hidden = true;
    stack.append(cross);
    stack.addEventListener("click", (event) => {
      const box = stack.getBoundingClientRect(), [rows, columns] = state.frames[state.frame].grid;
      const within = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
      state.point = [within((event.clientY - box.top) / box.height, rows), within((event.clientX - box.left) / box.width, columns)];
      inspect();
    });
    figure.dataset.kind = kind;
    figure.append(stack, caption);
    caption.append(make("b", "", title), make("span", "", ""));
    byId("panels").append(figure);
    return { figure, image, canvas, cross, words: caption.lastChild, caption };
  }
  function buildPanels() {
    const dataset = current(), several = dataset.runs.length > 1;
    byId("panels").replaceChildren();
    const prefix = (run) => (several ? `${run.letter} ` : "");
    const panels = { photo: panel("photo", "Image"), label: LABELLED ? panel("label", "Label") : null, runs: [], masks: [], heats: [] };
    dataset.runs.forEach((run, r) => {
      panels.runs.push(state.frames.some((f) => f.runs[r].predicted !== null) ? panel("predicted", `${prefix(run)}Prediction`) : null);
    });
    dataset.methods.forEach((method) => panels.masks.push(panel("mask", `${method.label}: mask`, true)));
    dataset.methods.forEach((method) => {
      const one = panel("heat", `${method.label}: heatmap`), scale = make("div", "scale"), ends = make("div", "ends2");
      const [low, high] = method.limits;
      one.colours = heatColours(method);
      one.tick = make("i");
      const strip = make("canvas");
      strip.setAttribute("role", "img");
      strip.setAttribute("aria-label", `Colours from ${number(low)} (dark, known) to ${number(high)} (bright, anomalous)`);
      draw(strip, 1, 256, (at) => rgba([inferno[3 * at], inferno[3 * at + 1], inferno[3 * at + 2]]));
      scale.append(strip, one.tick);
      ends.append(make("span", "", `≤ ${number(low, 4)}`), make("span", "", `≥ ${number(high, 4)}`));
      one.figure.append(scale, ends);
      panels.heats.push(one);
    });
    // a score's heatmap stands below its mask, where there is room
    if (dataset.methods.length > 1) for (const [one] of [panels.masks, panels.heats]) one.figure.classList.add("first");
    state.panels = panels;
  }
  async function show(index, move) {
    const turn = ++state.turn, dataset = current(), frame = state.frames[index], panels = state.panels;
    state.frame = index;
    byId("name").textContent = frame.name;
    state.cards.forEach((card) => card.button.setAttribute("aria-current", String(card.index === index)));
    const [label, ...scores] = await Promise.all([
      picture(frame.label, frame.view), ...dataset.methods.map((_, m) => loadScore(frame, m))]);
    if (turn !== state.turn) return;
    const [height, width] = frame.view, url = photo(frame);
    for (const one of [panels.photo, ...panels.masks]) {
      one.image.src = url;
      one.image.width = width;
      one.image.height = height;
      one.image.alt = one === panels.photo ? `Image ${frame.name}` : "";
    }
    if (LABELLED) {
      draw(panels.label.canvas, height, width, (at) => rgba(LABEL[label[at]]));
      const anomalous = scores[0].counts.anomaly[0] / height / width;
      panels.label.canvas.setAttribute("aria-label", `Label of ${frame.name}: ${percent(anomalous)} of the pixels are anomalous`);
      panels.label.words.textContent = ` ${percent(anomalous)} of the pixels are anomalous (bright)`;
    }
    dataset.methods.forEach((method, m) => {
      const one = panels.heats[m];
      draw(one.canvas, height, width, (at) => one.colours[scores[m].codes[at]]);
      one.canvas.setAttribute("aria-label", `${frame.name}: heatmap of ${method.label}, brighter is more anomalous`);
      const rank = frame.methods[m].rank;
      if (LABELLED) one.words.textContent = rank === null ? " no AP: only one kind of pixel" : ` AP ${percent(rank)} on every pixel of the image`;
    });
    state.scores = scores;
    follow();
    inspect();
    dataset.runs.forEach((run, r) => drawPredicted(frame, run, r, turn));
    if (move) byId("app").scrollIntoView({ block: "start" });
    if (history.replaceState) history.replaceState(null, "", `#s${state.dataset}f${index}`);
  }
  async function drawPredicted(frame, run, r, turn) {
    const one = state.panels.runs[r], [height, width] = frame.view;
    if (!one || frame.runs[r].predicted === null) return;
    const predicted = await numbers(frame.runs[r].predicted, small(frame.runs[r]));
    if (turn !== state.turn) return;
    const counts = new Map(), colours = [];
    predicted.forEach((c) => counts.set(c, (counts.get(c) || 0) + 1));
    counts.forEach((_, c) => { colours[c] = rgba(classColour(run, c)); });
    draw(one.canvas, height, width, (at) => colours[predicted[at]]);
    const ranked = [...counts].sort((a, b) => b[1] - a[1]).map(([c]) => c);
    one.canvas.setAttribute("aria-label", `${frame.name}: predicted classes, most pixels first: ${ranked.map((c) => className(run, c)).join(", ")}`);
    const list = make("span", "legend");
    for (const c of ranked.slice(0, 12)) {
      const item = make("span"), swatch = make("span", "swatch");
      swatch.style.background = `rgb(${classColour(run, c).join(",")})`;
      item.append(swatch, className(run, c));
      list.append(item);
    }
    one.words.replaceChildren(list);
  }
  const className = (run, c) => run.classes[c] ?? `class ${c}`;

  // ---- the slider -------------------------------------------------------------------------------------------------------
  function follow() {
    const dataset = current(), frame = state.frames[state.frame], rows = [];
    byId("target").textContent = `at most ${percent(target())}`;
    byId("slider").setAttribute("aria-valuetext", `at most ${percent(target())} of the ${LABELLED ? "known " : ""}pixels`);
    if (!state.scores) return;
    dataset.methods.forEach((method, m) => {
      const k = level(method), found = rates(state.scores[m].counts, k), one = state.panels.masks[m], at = threshold(method, k);
      drawMask(one.canvas, state.scores[m], frame.view, k);
      one.canvas.setAttribute("aria-label", told(frame, method, k, found));
      const here = percent(share(found, frame.view));
      one.words.textContent = LABELLED ? ` precision ${percent(found.precision)}, recall ${percent(found.recall)}` : ` ${here} flagged`;
      const [low, high] = method.limits;
      state.panels.heats[m].tick.style.left = `${100 * Math.min(1, Math.max(0, (at - low) / (high - low)))}%`;
      const row = make("tr"), name = make("th");
      name.scope = "row";
      name.append(make("span", `key s${m % 7}`), method.label);
      row.append(name);
      const cells = [Number.isFinite(at) ? `≥ ${number(at, 6)}` : "above all scores", percent(method.fpr[k] ?? 0)];
      cells.push(...(LABELLED ? [method.tpr[k] ?? 0, found.precision, found.recall].map(percent) : [here]));
      for (const text of cells) row.append(make("td", "number", text));
      Object.assign(row.dataset, { tp: found.tp, fp: found.fp, fn: found.fn, level: k });
      rows.push(row);
    });
    byId("thresholds").tBodies[0].replaceChildren(...rows);
    state.cards.forEach((card) => card.visible && paint(card));
    if (state.point) inspect();
  }

  // ---- one pixel ----------------------------------------------------------------------------------------------------------
  async function inspect() {
    const box = byId("inspector"), frame = state.frames[state.frame], dataset = current(), turn = state.turn;
    const panels = [state.panels.photo, state.panels.label, ...state.panels.runs, ...state.panels.masks, ...state.panels.heats];
    box.classList.toggle("open", Boolean(state.point));
    if (!state.point) {
      box.replaceChildren(make("p", "faint", "Click an image to see the scores of a pixel and its most likely classes."));
      panels.forEach((one) => one && (one.cross.hidden = true));
      return;
    }
    const [rows, columns] = frame.grid, [height, width] = frame.view;
    const row = Math.min(rows - 1, state.point[0]), column = Math.min(columns - 1, state.point[1]), at = row * columns + column;
    const y = picks(height, rows)[row], x = picks(width, columns)[column];
    panels.forEach((one) => {
      if (!one) return;
      one.cross.hidden = false;
      Object.assign(one.cross.style, { left: `${(100 * (x + 0.5)) / width}%`, top: `${(100 * (y + 0.5)) / height}%` });
    });
    const points = await Promise.all(frame.methods.map((one) => numbers(one.points, Float32Array)));
    const runs = await Promise.all(frame.runs.map(async (run) => run.kind === "" ? null : ({
      classes: await numbers(run.classes, small(run)), values: await numbers(run.values, Float32Array),
      predicted: run.predicted === null ? null : await numbers(run.predicted, small(run)) })));
    if (turn !== state.turn) return;
    const kind = { 0: "known", 1: "anomalous", 255: "ignored" }[state.scores[0].label[y * width + x]];
    const title = make("h3", "", `Pixel ${picks(frame.size[1], width)[x]}, ${picks(frame.size[0], height)[y]} of ${frame.size[1]} x ${frame.size[0]}${LABELLED ? `: ${kind}` : ""}`);
    const all = make("div", "columns");
    all.append(table("Scores", ["score", "value", "flagged"], dataset.methods.map((method, m) => {
      const value = points[m][at];
      return [method.label, number(value, 7), value >= threshold(method, level(method)) ? "yes" : "no"];
    })));
    runs.forEach((found, r) => {
      if (!found) return;
      const run = dataset.runs[r], most = frame.runs[r].most, cells = rows * columns;
      const lines = Array.from({ length: most }, (_, i) => [className(run, found.classes[i * cells + at]), number(found.values[i * cells + at], 7)]);
      const said = found.predicted ? `predicted ${className(run, found.predicted[y * width + x])}; most likely classes` : "most likely classes";
      const value = { log_softmax: "log-softmax", mask_sum: "sum over masks" }[frame.runs[r].kind] ?? "log-likelihood";
      all.append(table(`${dataset.runs.length > 1 ? `${run.letter} ` : ""}${said}`, ["class", value], lines));
    });
    const close = make("button", "close", "×");
    close.type = "button";
    close.setAttribute("aria-label", "close");
    close.addEventListener("click", forget);
    box.replaceChildren(title, close, all, make("p", "faint", `Values are stored for a grid of ${columns} x ${rows} pixels; the circle marks the one nearest to your click.`));
    if (runs.every((found) => !found)) box.append(make("p", "faint", "No classes: these scores came without predicted classes."));
  }
  function forget() {
    state.point = null;
    inspect();
  }
  function table(caption, heads, lines) {
    const holder = make("div"), out = make("table"), head = make("tr"), body = make("tbody");
    out.append(make("caption", "", caption));
    heads.forEach((text) => { const cell = make("th", "", text); cell.scope = "col"; head.append(cell); });
    out.createTHead().append(head);
    for (const line of lines) {
      const row = make("tr");
      line.forEach((text) => row.append(make("td", "", text)));
      body.append(row);
    }
    out.append(body);
    holder.append(out);
    return holder;
  }

  // ---- all images -----------------------------------------------------------------------------------------------------------
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const card = state.cards[Number(entry.target.dataset.card)];
      if (!card || card.button !== entry.target) continue;
      card.visible = entry.isIntersecting;
      if (card.visible) paint(card);
    }
  }, { rootMargin: "300px" });
  function buildCards() {
    watcher.disconnect();
    state.cards = state.frames.map((frame, index) => {
      const item = make("li"), button = make("button", "card"), stack = make("span", "stack"), text = make("span", "text");
      const image = make("img"), canvas = make("canvas", "over"), values = make("span");
      Object.assign(image, { width: frame.view[1], height: frame.view[0], alt: "" });
      stack.style.display = "block";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Image ${frame.name} with its mask`);
      stack.append(image, canvas);
      text.append(make("b", "", frame.name), values);
      button.type = "button";
      button.dataset.card = String(index);
      button.append(stack, text);
      button.addEventListener("click", () => show(index, true));
      item.append(button);
      return { index, frame, item, button, image, canvas, values, visible: false };
    });
    arrange();
    state.cards.forEach((card) => watcher.observe(card.button));
  }
  async function paint(card, seen = () => card.visible) {
    const m = state.by, method = current().methods[m], frame = card.frame;
    const score = await loadScore(frame, m);
    if (m !== state.by || !seen()) return;
    if (!card.image.src) card.image.src = photo(frame);
    const k = level(method), found = rates(score.counts, k), rank = frame.methods[m].rank;
    drawMask(card.canvas, score, frame.view, k, 2);
    card.canvas.setAttribute("aria-label", told(frame, method, k, found));
    card.values.textContent = !LABELLED ? `${percent(share(found, frame.view))} flagged` : `AP ${rank === null ? "nan" : percent(rank)} · precision ${percent(found.precision)} · recall ${percent(found.recall)}`;
  }
  // What is loaded can be painted at once when the page is printed; until then cards out of sight cost nothing more.
  async function loadAhead() {
    const cards = state.cards, m = state.by;
    for (const card of cards) {
      await new Promise((done) => setTimeout(done, 20));
      if (cards !== state.cards || m !== state.by) return;
      card.image.src ||= photo(card.frame);
      await loadScore(card.frame, m);
    }
  }
  function arrange() {
    const order = byId("order").value, wanted = byId("search").value.trim().toLowerCase(), last = order === "best" ? -1 : 2;
    const rank = (card) => card.frame.methods[state.by].rank ?? last;
    const cards = [...state.cards];
    if (order === "worst") cards.sort((a, b) => rank(a) - rank(b));
    if (order === "best") cards.sort((a, b) => rank(b) - rank(a));
    if (order === "random") for (let i = cards.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [cards[i], cards[j]] = [cards[j], cards[i]];
    }
    const found = cards.filter((card) => card.frame.name.toLowerCase().includes(wanted));
    state.list = found.map((card) => card.index);
    byId("cards").replaceChildren(...found.map((card) => card.item));
    byId("count").textContent = `${found.length} of ${cards.length} images`;
  }
  function step(by) {
    if (!state.list.length) return;
    const at = state.list.indexOf(state.frame), next = at < 0 ? 0 : (at + by + state.list.length) % state.list.length;
    show(state.list[next], false);
  }

  // ---- beginning ------------------------------------------------------------------------------------------------------------
  function options(select, texts) {
    select.replaceChildren(...texts.map((text, i) => { const one = make("option", "", text); one.value = String(i); return one; }));
  }
  async function open(dataset, frame) {
    Object.assign(state, { dataset, by: 0, point: null, scores: null, frames: data.datasets[dataset].frames });
    byId("dataset").value = String(dataset);
    options(byId("by"), current().methods.map((method) => method.label));
    byId("search").value = "";
    buildPanels();
    buildCards();
    await show(frame ?? state.list[0], false);
    loadAhead().catch(fail);
  }
  async function goTo() {
    const found = /^#s(\d+)f(\d+)$/.exec(location.hash);
    if (!found || !data.datasets[found[1]] || !data.datasets[found[1]].frames[found[2]]) return false;
    const [dataset, frame] = [Number(found[1]), Number(found[2])];
    await (dataset === state.dataset && state.panels ? show(frame, true) : open(dataset, frame));
    byId("app").scrollIntoView({ block: "start" });
    return true;
  }
  const THEMES = { "": "system", light: "light", dark: "dark" };
  function theme(name) {
    if (name) document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
    byId("theme").textContent = `Theme: ${THEMES[name]}`;
    try { localStorage.setItem("theme", name); } catch { /* a page from disk may not keep anything */ }
  }
  function fail(error) {
    byId("broken").textContent = `This browser cannot show the images (${error}). Use a current Firefox, Chrome or Safari.`;
    byId("broken").hidden = false;
  }
  function listen() {
    let waiting = false;
    byId("slider").addEventListener("input", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; follow(); });
    });
    byId("dataset").addEventListener("change", (event) => open(Number(event.target.value)).catch(fail));
    byId("by").addEventListener("change", (event) => { state.by = Number(event.target.value); arrange(); follow(); loadAhead().catch(fail); });
    byId("order").addEventListener("change", arrange);
    byId("search").addEventListener("input", arrange);
    byId("search").addEventListener("keydown", (event) => { if (event.key === "Enter" && state.list.length) show(state.list[0], true); });
    byId("before").addEventListener("click", () => step(-1));
    byId("after").addEventListener("click", () => step(1));
    byId("theme").addEventListener("click", () => {
      const names = Object.keys(THEMES), now = document.documentElement.dataset.theme || "";
      theme(names[(names.indexOf(now) + 1) % names.length]);
    });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && state.point) forget();
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.altKey || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      event.preventDefault();
      step(by);
    });
    addEventListener("hashchange", () => { goTo().catch(fail); });
    addEventListener("beforeprint", () => state.cards.forEach((card) => paint(card, () => true)));
  }
  async function start() {
    let kept = "";
    try { kept = localStorage.getItem("theme") || ""; } catch { /* as above */ }
    theme(kept in THEMES ? kept : "");
    options(byId("dataset"), data.datasets.map((dataset) => dataset.name));
    byId("datasetlabel").hidden = data.datasets.length < 2;
    byId("app").hidden = false;
    listen();
    if (!(await goTo())) await open(0);
    document.documentElement.dataset.ready = "yes";
  }
  start().catch(fail);
})();
