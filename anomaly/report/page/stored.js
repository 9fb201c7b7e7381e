"use strict";
// What is stored in the page, counted and drawn; nothing here knows which frame is looked at.

const byId = (id) => document.getElementById(id);
const ANOMALY = 1, IGNORE = 255, KEPT = 900;
const MASK = { tp: [240, 228, 66], fp: [213, 94, 0], fn: [0, 114, 178], ignored: [128, 128, 128] };
const LABEL = { 0: [62, 74, 97], 1: [255, 176, 0], 255: [214, 214, 220] };
const data = JSON.parse(byId("manifest").textContent);
const LABELLED = data.labelled !== false;

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
const classColour = (run, index) => run.palette[index] ?? [214, 214, 220];

// ---- what is stored ---------------------------------------------------------------------------------------------
const cache = new Map();
function unpack(text) {
  const plain = atob(text), bytes = new Uint8Array(plain.length);
  for (let i = 0; i < plain.length; i++) bytes[i] = plain.charCodeAt(i);
  return bytes;
}
function remembered(blob, decode) {
  const found = cache.get(blob) || decode(unpack(byId(`b${blob}`).textContent));
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
const inferno = unpack(data.inferno);

// ---- counts: level k flags a pixel when its code is more than k ----------------------------------------------------
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
  if (!LABELLED) return `${frame.name}: ${method.label} flags ${percent(share(found, frame.view))} of the pixels`;
  return `${frame.name}: mask of ${method.label} at ${number(threshold(method, k))}: precision ${percent(found.precision)}, ` +
    `recall ${percent(found.recall)}; ${found.tp} true positives, ${found.fp} false positives, ${found.fn} false negatives`;
}
