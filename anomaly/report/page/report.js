"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const POSITIONS = 200, LEAST = 1e-4, KEPT = 900;
  const ANOMALY = 1, IGNORE = 255;
  const MASK = { tp: [240, 228, 66], fp: [213, 94, 0], fn: [0, 114, 178], ignored: [128, 128, 128] };
  const LABEL = { 0: [62, 74, 97], 1: [255, 176, 0], 255: [214, 214, 220] };
  const CLASSES = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB", "#332288", "#DDCC77",
    "#117733", "#882255", "#44AA99", "#999933", "#CC6677", "#88CCEE"];
  const data = JSON.parse(byId("manifest").textContent);
  const LABELLED = data.labelled !== false;
  const state = { set: 0, frame: 0, by: 0, point: null, turn: 0, list: [], cards: [], panels: null, frames: [] };

  // ---- small things -----------------------------------------------------------------------------------------------
  function make(tag, style, text) {
    const element = document.createElement(tag);
    if (style) element.className = style;
    if (text !== undefined) element.textContent = text;
    return element;
  }
  const number = (value, digits = 5) => (Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : "nan");
  function percent(value) {
    if (!Number.isFinite(value)) return "nan";
    const shown = 100 * value;
    return `${shown >= 10 || shown === 0 ? shown.toFixed(1) : shown >= 1 ? shown.toFixed(2) : Number(shown.toPrecision(2))} %`;
  }
  const rgba = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const picks = (length, count) => Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * length) / count));
  function classColour(index) {
    const text = CLASSES[index];
    if (text) return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
    const hue = (index * 137.508) % 360, light = 0.35 + 0.15 * (index % 4), spread = 0.65 * Math.min(light, 1 - light);
    return [0, 8, 4].map((n) => {
      const k = (n + hue / 30) % 12;
      return Math.round(255 * (light - spread * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
    });
  }

  // ---- what is stored ---------------------------------------------------------------------------------------------
  const cache = new Map();
  function raw(blob) {
    const text = atob(byId(`b${blob}`).textContent), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }
  function remembered(blob, decode) {
    const found = cache.get(blob) || decode(raw(blob));
    cache.delete(blob);
    cache.set(blob, found);
    if (cache.size > KEPT) cache.delete(cache.keys().next().value);
    return found;
  }
  async function inflate(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  const picture = (blob, [height, width]) => remembered(blob, async (bytes) => {
    const x = await inflate(bytes);
    for (let row = 0, at = 0; row < height; row++) {
      for (let column = 0; column < width; column++, at++) {
        const left = column ? x[at - 1] : 0, upper = row ? x[at - width] : 0, corner = row && column ? x[at - width - 1] : 0;
        const low = Math.min(left, upper), high = Math.max(left, upper);
        x[at] += Math.min(high, Math.max(low, left + upper - corner));
      }
    }
    return x;
  });
  const numbers = (blob, Type) => remembered(blob, async (bytes) => {
    const planes = await inflate(bytes), size = Type.BYTES_PER_ELEMENT, count = planes.length / size;
    const out = new Uint8Array(planes.length);
    for (let k = 0; k < size; k++) for (let i = 0; i < count; i++) out[i * size + k] = planes[k * count + i];
    return new Type(out.buffer);
  });
  const photo = (frame) => remembered(frame.photo, (bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
  const small = (run) => (run.bytes === 1 ? Uint8Array : Uint16Array);
  const inferno = raw2(data.inferno);
  function raw2(text) {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  }

  // ---- thresholds: level k flags a pixel when its code is more than k ------------------------------------------------
  const current = () => data.sets[state.set];
  const target = () => LEAST ** (1 - Number(byId("slider").value) / POSITIONS);
  function level(method) {
    const wanted = target() * (1 + 1e-9);
    let k = 0;
    while (k < method.fpr.length && method.fpr[k] > wanted) k++;
    return k;
  }
  const threshold = (method, k) => (k < method.levels.length ? method.levels[k] : Infinity);
  function tally(codes, label) {
    const counts = { known: new Uint32Array(258), anomaly: new Uint32Array(258) };
    for (let i = 0; i < codes.length; i++) {
      if (label[i] !== IGNORE) (label[i] === ANOMALY ? counts.anomaly : counts.known)[codes[i]]++;
    }
    for (const count of Object.values(counts)) for (let c = 255; c >= 0; c--) count[c] += count[c + 1];
    return counts;
  }
  function rates(counts, k) {
    const tp = counts.anomaly[k + 1], fp = counts.known[k + 1], fn = counts.anomaly[0] - tp;
    return { tp, fp, fn, precision: tp / (tp + fp), recall: tp / (tp + fn) };
  }
  async function loadScore(frame, m) {
    const [codes, label] = await Promise.all([picture(frame.methods[m].codes, frame.view), picture(frame.label, frame.view)]);
    const key = `c${frame.methods[m].codes}`;
    if (!cache.has(key)) cache.set(key, tally(codes, label));
    return { codes, label, counts: cache.get(key) };
  }

  // ---- drawing ------------------------------------------------------------------------------------------------------
  function draw(canvas, height, width, colour) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    const out = new Uint32Array(image.data.buffer);
    for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at++) out[at] = colour(at, x, y);
    context.putImageData(image, 0, 0);
  }
  const TP = rgba(MASK.tp, 225), FP = [rgba(MASK.fp, 240), rgba(MASK.fp, 120)], FN = [rgba(MASK.fn, 245), rgba(MASK.fn, 150)];
  const IGNORED = rgba(MASK.ignored, 90);
  function drawMask(canvas, { codes, label }, [height, width], k, step = 1) {
    const rows = Math.ceil(height / step), columns = Math.ceil(width / step);
    draw(canvas, rows, columns, (_, x, y) => {
      const at = y * step * width + x * step, kind = label[at];
      if (kind === IGNORE) return IGNORED;
      if (codes[at] > k) return kind === ANOMALY ? TP : FP[(x + y) % 6 < 3 ? 0 : 1];
      return kind === ANOMALY ? FN[x % 6 < 3 === y % 6 < 3 ? 0 : 1] : 0;
    });
  }
  function heatColours(method) {
    const [low, high] = method.limits, levels = method.levels, last = levels.length - 1;
    return Uint32Array.from({ length: 256 }, (_, code) => {
      const value = (levels[Math.max(0, Math.min(last, code - 1))] + levels[Math.min(last, code)]) / 2;
      const at = 3 * Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))));
      return rgba([inferno[at], inferno[at + 1], inferno[at + 2]]);
    });
  }
  const share = (found, [height, width]) => (found.tp + found.fp) / height / width;
  function told(frame, method, k, found) {
    if (!LABELLED) return `${frame.name}: ${method.label} calls ${percent(share(found, frame.view))} anomalous`;
    return `${frame.name}: mask of ${method.label} at ${number(threshold(method, k))}: precision ${percent(found.precision)}, ` +
      `recall ${percent(found.recall)}; ${found.tp} pixels found, ${found.fp} false alarms, ${found.fn} missed`;
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
    const set = current(), several = set.runs.length > 1;
    byId("panels").replaceChildren();
    const prefix = (run) => (several ? `${run.letter} ` : "");
    const panels = { photo: panel("photo", "Photograph"), label: LABELLED ? panel("label", "Label") : null, runs: [], masks: [], heats: [] };
    set.runs.forEach((run, r) => {
      panels.runs.push(state.frames.some((f) => f.runs[r].predicted !== null) ? panel("predicted", `${prefix(run)}Prediction`) : null);
    });
    set.methods.forEach((method) => panels.masks.push(panel("mask", `${method.label}: mask`, true)));
    set.methods.forEach((method) => {
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
    state.panels = panels;
  }
  async function show(index, move) {
    const turn = ++state.turn, set = current(), frame = state.frames[index], panels = state.panels;
    state.frame = index;
    byId("name").textContent = frame.name;
    state.cards.forEach((card) => card.button.setAttribute("aria-current", String(card.index === index)));
    const [label, ...scores] = await Promise.all([
      picture(frame.label, frame.view), ...set.methods.map((_, m) => loadScore(frame, m))]);
    if (turn !== state.turn) return;
    const [height, width] = frame.view, url = photo(frame);
    for (const one of [panels.photo, ...panels.masks]) {
      one.image.src = url;
      one.image.width = width;
      one.image.height = height;
      one.image.alt = one === panels.photo ? `Photograph ${frame.name}` : "";
    }
    if (LABELLED) {
      draw(panels.label.canvas, height, width, (at) => rgba(LABEL[label[at]]));
      const anomalous = scores[0].counts.anomaly[0] / height / width;
      panels.label.canvas.setAttribute("aria-label", `Label of ${frame.name}: ${percent(anomalous)} of the picture is anomalous`);
      panels.label.words.textContent = ` ${percent(anomalous)} of the picture is anomalous (bright)`;
    }
    set.methods.forEach((method, m) => {
      const one = panels.heats[m];
      draw(one.canvas, height, width, (at) => one.colours[scores[m].codes[at]]);
      one.canvas.setAttribute("aria-label", `${frame.name}: heatmap of ${method.label}, brighter is more anomalous`);
      const rank = frame.methods[m].rank;
      if (LABELLED) one.words.textContent = rank === null ? " no AP: one kind of pixel only" : ` AP of the frame ${percent(rank)}, of every pixel`;
    });
    state.scores = scores;
    follow();
    inspect();
    set.runs.forEach((run, r) => drawPredicted(frame, run, r, turn));
    if (move) byId("app").scrollIntoView({ block: "start" });
    if (history.replaceState) history.replaceState(null, "", `#s${state.set}f${index}`);
  }
  async function drawPredicted(frame, run, r, turn) {
    const one = state.panels.runs[r], [height, width] = frame.view;
    if (!one || frame.runs[r].predicted === null) return;
    const predicted = await numbers(frame.runs[r].predicted, small(frame.runs[r]));
    if (turn !== state.turn) return;
    const counts = new Map(), colours = [];
    predicted.forEach((c) => counts.set(c, (counts.get(c) || 0) + 1));
    counts.forEach((_, c) => { colours[c] = rgba(classColour(c)); });
    draw(one.canvas, height, width, (at) => colours[predicted[at]]);
    const ranked = [...counts].sort((a, b) => b[1] - a[1]).map(([c]) => c);
    one.canvas.setAttribute("aria-label", `${frame.name}: predicted classes, most pixels first: ${ranked.map((c) => className(run, c)).join(", ")}`);
    const list = make("span", "legend");
    for (const c of ranked.slice(0, 12)) {
      const item = make("span"), swatch = make("span", "swatch");
      swatch.style.background = `rgb(${classColour(c).join(",")})`;
      item.append(swatch, className(run, c));
      list.append(item);
    }
    one.words.replaceChildren(list);
  }
  const className = (run, c) => run.classes[c] ?? `class ${c}`;

  // ---- the slider -------------------------------------------------------------------------------------------------------
  function follow() {
    const set = current(), frame = state.frames[state.frame], rows = [];
    byId("target").textContent = `at most ${percent(target())}`;
    byId("slider").setAttribute("aria-valuetext", `at most ${percent(target())} of the ${LABELLED ? "known " : ""}pixels`);
    if (!state.scores) return;
    set.methods.forEach((method, m) => {
      const k = level(method), found = rates(state.scores[m].counts, k), one = state.panels.masks[m], at = threshold(method, k);
      drawMask(one.canvas, state.scores[m], frame.view, k);
      one.canvas.setAttribute("aria-label", told(frame, method, k, found));
      const here = percent(share(found, frame.view));
      one.words.textContent = LABELLED ? ` precision ${percent(found.precision)}, recall ${percent(found.recall)}` : ` ${here} of the picture`;
      const [low, high] = method.limits;
      state.panels.heats[m].tick.style.left = `${100 * Math.min(1, Math.max(0, (at - low) / (high - low)))}%`;
      const row = make("tr"), name = make("th");
      name.scope = "row";
      name.append(make("span", `key s${m % 7}`), method.label);
      row.append(name);
      const cells = [Number.isFinite(at) ? `≥ ${number(at, 6)}` : "above every level", percent(method.fpr[k] ?? 0)];
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
    const box = byId("inspector"), frame = state.frames[state.frame], set = current(), turn = state.turn;
    const panels = [state.panels.photo, state.panels.label, ...state.panels.runs, ...state.panels.masks, ...state.panels.heats];
    box.classList.toggle("open", Boolean(state.point));
    if (!state.point) {
      box.replaceChildren(make("p", "faint", "Click on a picture to see the score of that pixel and its likeliest classes."));
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
    all.append(table("Scores", ["score", "value", "called"], set.methods.map((method, m) => {
      const value = points[m][at];
      return [method.label, number(value, 8), value >= threshold(method, level(method)) ? "anomalous" : "known"];
    })));
    runs.forEach((found, r) => {
      if (!found) return;
      const run = set.runs[r], most = frame.runs[r].most, cells = rows * columns;
      const lines = Array.from({ length: most }, (_, i) => [className(run, found.classes[i * cells + at]), number(found.values[i * cells + at], 8)]);
      const said = found.predicted ? `predicted ${className(run, found.predicted[y * width + x])}; likeliest classes` : "likeliest classes";
      const value = frame.runs[r].kind === "log_softmax" ? "log-softmax" : "log-likelihood";
      all.append(table(`${set.runs.length > 1 ? `${run.letter} ` : ""}${said}`, ["class", value], lines));
    });
    const close = make("button", "close", "×");
    close.type = "button";
    close.setAttribute("aria-label", "close");
    close.addEventListener("click", forget);
    box.replaceChildren(title, close, all);
    if (runs.every((found) => !found)) box.append(make("p", "faint", "Classes are not known: these scores came from files, without a network."));
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

  // ---- all frames -----------------------------------------------------------------------------------------------------------
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
      const image = make("img"), canvas = make("canvas", "over"), figures = make("span");
      Object.assign(image, { width: frame.view[1], height: frame.view[0], alt: "" });
      stack.style.display = "block";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Photograph ${frame.name} with its mask`);
      stack.append(image, canvas);
      text.append(make("b", "", frame.name), figures);
      button.type = "button";
      button.dataset.card = String(index);
      button.append(stack, text);
      button.addEventListener("click", () => show(index, true));
      item.append(button);
      return { index, frame, item, button, image, canvas, figures, visible: false };
    });
    arrange();
    state.cards.forEach((card) => watcher.observe(card.button));
  }
  async function paint(card) {
    const m = state.by, method = current().methods[m], frame = card.frame;
    const score = await loadScore(frame, m);
    if (m !== state.by || !card.visible) return;
    if (!card.image.src) card.image.src = photo(frame);
    const k = level(method), found = rates(score.counts, k), rank = frame.methods[m].rank;
    drawMask(card.canvas, score, frame.view, k, 2);
    card.canvas.setAttribute("aria-label", told(frame, method, k, found));
    card.figures.textContent = !LABELLED ? `${percent(share(found, frame.view))} called anomalous` : `AP ${rank === null ? "nan" : percent(rank)} · precision ${percent(found.precision)} · recall ${percent(found.recall)}`;
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
    byId("count").textContent = `${found.length} of ${cards.length} frames`;
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
  function open(set, frame) {
    Object.assign(state, { set, by: 0, point: null, scores: null, frames: data.sets[set].frames });
    byId("set").value = String(set);
    options(byId("by"), current().methods.map((method) => method.label));
    byId("search").value = "";
    buildPanels();
    buildCards();
    return show(frame ?? state.list[0], false);
  }
  async function goTo() {
    const found = /^#s(\d+)f(\d+)$/.exec(location.hash);
    if (!found || !data.sets[found[1]] || !data.sets[found[1]].frames[found[2]]) return false;
    const [set, frame] = [Number(found[1]), Number(found[2])];
    await (set === state.set && state.panels ? show(frame, true) : open(set, frame));
    byId("app").scrollIntoView({ block: "start" });
    return true;
  }
  const THEMES = { "": "as the system", light: "light", dark: "dark" };
  function theme(name) {
    if (name) document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
    byId("theme").textContent = `Colours: ${THEMES[name]}`;
    try { localStorage.setItem("theme", name); } catch { /* a page from disk may not keep anything */ }
  }
  function fail(error) {
    byId("broken").textContent = `This browser cannot show the frames (${error}). A current Firefox, Chrome or Safari can.`;
    byId("broken").hidden = false;
  }
  function listen() {
    let waiting = false;
    byId("slider").addEventListener("input", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; follow(); });
    });
    byId("set").addEventListener("change", (event) => open(Number(event.target.value)));
    byId("by").addEventListener("change", (event) => { state.by = Number(event.target.value); arrange(); follow(); });
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
    addEventListener("beforeprint", () => state.cards.forEach((card) => { card.visible = true; paint(card); }));
  }
  async function start() {
    let kept = "";
    try { kept = localStorage.getItem("theme") || ""; } catch { /* as above */ }
    theme(kept in THEMES ? kept : "");
    options(byId("set"), data.sets.map((set) => set.name));
    byId("setlabel").hidden = data.sets.length < 2;
    byId("app").hidden = false;
    listen();
    if (!(await goTo())) await open(0);
    document.documentElement.dataset.ready = "yes";
  }
  start().catch(fail);
})();
