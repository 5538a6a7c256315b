#include "motion/html_page.h"

namespace mc::motion {

// clang-format off
const char* const kViewerPage = R"page(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<title>@TITLE@</title>
<style>
:root { color-scheme: dark; --sky: #232833; --sky2: #12151b; --ink: #eef1f6; --soft: #9aa4b5; --bar: rgba(24, 28, 36, .78);
  --line: rgba(255, 255, 255, .10); --hover: rgba(255, 255, 255, .09); --accent: #6ea8ff; --left: #4cc2b4; --right: #f0935a; }
:root[data-theme=light] { color-scheme: light; --sky: #f7f8fa; --sky2: #dfe4eb; --ink: #1b2029; --soft: #5d6779;
  --bar: rgba(255, 255, 255, .82); --line: rgba(20, 30, 50, .12); --hover: rgba(20, 30, 50, .07); --accent: #2466d6; --left: #1f9a8c; --right: #d9702f; }
* { box-sizing: border-box; }
html, body { margin: 0; height: 100%; overflow: hidden; background: var(--sky2); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
canvas { position: fixed; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; cursor: grab; outline: none;
  background: radial-gradient(120% 90% at 50% 35%, var(--sky), var(--sky2)); }
canvas.drag { cursor: grabbing; }
header { position: fixed; left: 0; top: 0; right: 0; padding: 18px 22px; pointer-events: none; }
#caption { margin: 0; font-size: clamp(16px, 2.1vw, 23px); font-weight: 600; letter-spacing: -.01em; max-width: 46em; overflow-wrap: anywhere;
  display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow: hidden; }
#note { color: var(--soft); margin-top: 3px; font-size: 13px; overflow-wrap: anywhere; }
#legend { color: var(--soft); font-size: 12px; margin-top: 8px; display: flex; gap: 14px; }
#legend i { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 6px; }
#picker { pointer-events: auto; display: flex; flex-wrap: wrap; gap: 6px; margin-top: 12px; max-height: 26vh; overflow: auto; }
#picker button { border: 1px solid var(--line); background: var(--bar); border-radius: 999px; padding: 4px 12px; max-width: 22em;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; font-size: 13px; }
#picker button[aria-pressed=true] { border-color: var(--accent); color: var(--accent); }
footer { position: fixed; left: 50%; bottom: 18px; transform: translateX(-50%); width: min(940px, calc(100% - 28px)); display: flex; flex-wrap: wrap;
  align-items: center; gap: 4px 6px; padding: 8px 12px; background: var(--bar); border: 1px solid var(--line); border-radius: 16px;
  backdrop-filter: blur(14px); -webkit-backdrop-filter: blur(14px); box-shadow: 0 10px 34px rgba(0, 0, 0, .22); }
button, select { font: inherit; color: inherit; background: none; border: 0; border-radius: 9px; cursor: pointer; }
button:hover, select:hover { background: var(--hover); }
button:focus-visible, select:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
footer button { width: 34px; height: 34px; display: grid; place-items: center; flex: none; }
footer svg { width: 19px; height: 19px; fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; }
footer svg .f { fill: currentColor; stroke: none; }
footer button[aria-pressed=true] { color: var(--accent); }
#play { width: 42px; height: 42px; background: var(--accent); color: #fff; border-radius: 50%; }
#play:hover { filter: brightness(1.1); }
#scrub { flex: 1 1 80px; min-width: 80px; accent-color: var(--accent); height: 28px; margin: 0 6px; cursor: pointer; }
#time { font-variant-numeric: tabular-nums; color: var(--soft); white-space: nowrap; min-width: 15em; text-align: right; padding-right: 4px; }
#time b { color: var(--ink); font-weight: 600; }
select { height: 34px; padding: 0 6px; } select option { color: #111; background: #fff; }
@media (max-width: 780px) { #time { order: 9; flex: 1 1 100%; text-align: center; } }
@media (max-width: 560px) { header { padding: 14px 16px; } #play { order: 1; } #scrub { order: 2; flex-basis: calc(100% - 150px); } #speed { order: 3; }
  footer button { order: 4; } footer button:not(#play) { flex: 1 0 34px; } }
</style>
</head>
<body>
<canvas id="view" tabindex="0" aria-label="Three-dimensional view of the motion"></canvas>
<header>
  <h1 id="caption"></h1>
  <div id="note"></div>
  <div id="legend"><span><i style="background:var(--left)"></i>left</span><span><i style="background:var(--right)"></i>right</span></div>
  <div id="picker" hidden></div>
</header>
<footer>
  <button id="play" title="Play or pause (space)" aria-label="Play or pause"><svg viewBox="0 0 24 24"><path class="f" d="M8 5l11 7-11 7z"/></svg></button>
  <button id="back" title="One frame back (left arrow)" aria-label="One frame back"><svg viewBox="0 0 24 24"><path class="f" d="M17 6v12l-9-6z"/><path d="M6 6v12"/></svg></button>
  <button id="forth" title="One frame on (right arrow)" aria-label="One frame on"><svg viewBox="0 0 24 24"><path class="f" d="M7 6v12l9-6z"/><path d="M18 6v12"/></svg></button>
  <input id="scrub" type="range" min="0" max="1" step="any" value="0" aria-label="Time">
  <span id="time"></span>
  <select id="speed" title="Speed" aria-label="Speed"><option value="0.25">0.25&times;</option><option value="0.5">0.5&times;</option>
    <option value="0.75">0.75&times;</option><option value="1" selected>1&times;</option><option value="1.5">1.5&times;</option><option value="2">2&times;</option></select>
  <button id="loop" title="Loop (L)" aria-label="Loop" aria-pressed="true"><svg viewBox="0 0 24 24"><path d="M4 11V9a3 3 0 0 1 3-3h12m-3-3l3 3-3 3M20 13v2a3 3 0 0 1-3 3H5m3 3l-3-3 3-3"/></svg></button>
  <button id="follow" title="Camera follows (F)" aria-label="Camera follows" aria-pressed="true"><svg viewBox="0 0 24 24"><circle cx="12" cy="12" r="6"/><path d="M12 2v4M12 18v4M2 12h4M18 12h4"/></svg></button>
  <button id="trail" title="Path of the root (P)" aria-label="Path of the root" aria-pressed="true"><svg viewBox="0 0 24 24"><path d="M4 19c6 1 3-8 9-8s3-6 7-6"/><circle class="f" cx="20" cy="5" r="2.2"/></svg></button>
  <button id="reset" title="Reset the view (R)" aria-label="Reset the view"><svg viewBox="0 0 24 24"><path d="M5 12a7 7 0 1 0 2.3-5.2L5 9M5 4v5h5"/></svg></button>
  <button id="theme" title="Dark or light (T)" aria-label="Dark or light"><svg viewBox="0 0 24 24"><circle cx="12" cy="12" r="7"/><path class="f" d="M12 5a7 7 0 0 1 0 14z"/></svg></button>
</footer>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
(() => {
const $ = id => document.getElementById(id);
const errors = [], query = new URLSearchParams(location.search), testing = query.has("selftest");
addEventListener("error", e => errors.push(String(e.message)));

// ---- Data: per motion, joint positions as 16-bit steps of `scale` from `origin`, base64, (frames, joints, 3).
const data = JSON.parse($("data").textContent);
const motions = data.motions.map(m => {
  const raw = atob(m.xyz), view = new DataView(new ArrayBuffer(raw.length));
  for (let i = 0; i < raw.length; i++) view.setUint8(i, raw.charCodeAt(i));
  const xyz = new Float32Array(m.frames * m.joints * 3);
  for (let i = 0; i < xyz.length; i++) xyz[i] = m.origin[i % 3] + view.getUint16(2 * i, true) * m.scale;
  return Object.assign({}, m, {xyz});
});

// ---- State.
const canvas = $("view"), ctx = canvas.getContext("2d");
const body = document.createElement("canvas"), bodyCtx = body.getContext("2d", {willReadFrequently: true});
const shade = document.createElement("canvas"), shadeCtx = shade.getContext("2d");
const state = {motion: 0, time: 0, playing: false, speed: 1, loop: true, follow: true, trail: true, theme: "dark", all: false};
const camera = {yaw: 0, pitch: 0.16, distance: 4, target: [0, 1, 0], focus: [0, 0]};
let current = motions[0], quality = 1, cost = 0, dirty = true, lastFrame = 0;

const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const mul = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = a => mul(a, 1 / (Math.hypot(...a) || 1));
const clamp = (x, lo, hi) => Math.min(hi, Math.max(lo, x));

// Joint j at a time in frames, between two frames by interpolation.
function joint(m, time, j) {
  time = clamp(time, 0, m.frames - 1);
  const f = clamp(Math.floor(time), 0, m.frames - 1), g = Math.min(f + 1, m.frames - 1), u = time - f;
  const a = (f * m.joints + j) * 3, b = (g * m.joints + j) * 3;
  return [0, 1, 2].map(k => m.xyz[a + k] * (1 - u) + m.xyz[b + k] * u);
}

// What is on stage: one motion where it was made, or all of them side by side on one floor, in step.
const stage = () => state.all ? motions.map((m, i) => ({m, shift: places[i]})) : [{m: current, shift: [0, 0, 0]}];
const timeOf = m => state.time / current.fps * m.fps;
const places = motions.map((m, i) => {
  const p = joint(m, 0, 0), f = motions[0].forward, x = (i - (motions.length - 1) / 2) * 1.7 * motions[0].size;
  return [x * f[2] - p[0], -m.floor, -x * f[0] - p[2]];
});
const floorY = () => state.all ? 0 : current.floor;

// The tapered bodies of a figure: [a, b, radius a, radius b, side].
function capsules({m, shift}) {
  const time = timeOf(m);
  return m.parts.map(([from, to, ra, rb, reach, side]) => {
    let a = add(joint(m, time, from), shift), b = add(joint(m, time, to), shift);
    if (reach > 0) { const tip = add(b, mul(unit(sub(b, a)), reach)); a = b; b = tip; }
    return [a, b, ra, rb, side];
  });
}

// ---- Camera: right-handed, Y up; view space looks along +z (depth).
let eye, right, up, ahead, focal, cx, cy;
// The figure stands between the title and the buttons: top and bottom, of the window's pixels; null if they may have moved.
let room = null;
const measure = () => ({top: Math.min($("picker").parentElement.getBoundingClientRect().bottom - 12, 0.35 * innerHeight),
  bottom: document.querySelector("footer").getBoundingClientRect().top});
function lens() {  // the focal length, in the window's pixels
  room = room || measure();
  return Math.min(1.9 * innerHeight, 2.3 * Math.max(1, room.bottom - room.top), 2.2 * innerWidth);
}
function aim() {
  const cp = Math.cos(camera.pitch), sp = Math.sin(camera.pitch);
  const back = [Math.sin(camera.yaw) * cp, sp, Math.cos(camera.yaw) * cp];
  eye = add(camera.target, mul(back, camera.distance));
  ahead = mul(back, -1);
  right = [Math.cos(camera.yaw), 0, -Math.sin(camera.yaw)];
  up = [-Math.sin(camera.yaw) * sp, cp, -Math.cos(camera.yaw) * sp];
  focal = lens() * pixel;
  cx = canvas.width / 2; cy = (room.top + room.bottom) / 2 * pixel;
}
const toView = p => { const d = sub(p, eye); return [dot(d, right), dot(d, up), dot(d, ahead)]; };
const near = () => 0.05 * current.size;
function project(p) { const v = toView(p); return [cx + focal * v[0] / v[2], cy - focal * v[1] / v[2], v[2]]; }
// A segment cut at the near plane, on the screen; null if it is behind the eye.
function segment(p, q) {
  let a = toView(p), b = toView(q);
  const n = near();
  if (a[2] < n && b[2] < n) return null;
  if (a[2] < n || b[2] < n) {
    const u = (n - a[2]) / (b[2] - a[2]), c = a.map((x, k) => x + u * (b[k] - x));
    if (a[2] < n) a = c; else b = c;
  }
  return [cx + focal * a[0] / a[2], cy - focal * a[1] / a[2], cx + focal * b[0] / b[2], cy - focal * b[1] / b[2]];
}

function middle(time) {
  let sum = [0, 0, 0];
  for (const {m, shift} of stage()) sum = add(sum, add(joint(m, time / current.fps * m.fps, 0), shift));
  return mul(sum, 1 / stage().length);
}
function resetView() {
  const at = middle(0), s = current.size;
  camera.yaw = Math.atan2(current.forward[0], current.forward[2]) + (state.all ? 0.2 : 0.62);
  camera.pitch = 0.2; camera.focus = [0, 0];
  const half = 0.85 * (motions.length - 1);  // of a row of figures, whose one end is nearer
  camera.distance = Math.max(5, state.all ? 2 * (half + 1.4) * lens() / innerWidth + 0.2 * half : 0) * s;
  camera.target = [at[0], floorY() + 0.86 * s, at[2]];
  if (!state.follow) frameAll();
  dirty = true;
}
// Without following, the whole path fits the picture.
function frameAll() {
  let lo = [1e9, 1e9], hi = [-1e9, -1e9];
  for (const {m, shift} of stage()) for (let f = 0; f < m.frames; f++) [0, 2].forEach((k, i) => {
    const x = m.xyz[f * m.joints * 3 + k] + shift[k];
    lo[i] = Math.min(lo[i], x); hi[i] = Math.max(hi[i], x);
  });
  camera.target[0] = (lo[0] + hi[0]) / 2; camera.target[2] = (lo[1] + hi[1]) / 2;
  camera.distance = Math.max(camera.distance, 5 * current.size + 0.75 * Math.hypot(hi[0] - lo[0], hi[1] - lo[1]));
}
function track() {
  if (!state.follow) return;
  const p = middle(state.time);
  camera.target[0] = p[0] + camera.focus[0]; camera.target[2] = p[2] + camera.focus[1];
}

// ---- Floor, path and shadow: plain canvas drawing.
const dark = () => state.theme === "dark";
const tint = alpha => dark() ? `rgba(200,214,240,${alpha})` : `rgba(40,56,88,${alpha})`;

function drawFloor() {
  const s = current.size, y = floorY(), step = 0.5 * s, reach = 8;
  const gx = Math.round(camera.target[0] / step), gz = Math.round(camera.target[2] / step), n = Math.round(reach * s / step);
  for (let i = -n; i <= n; i++) for (const alongX of [true, false]) {
    const index = (alongX ? gz : gx) + i, c = index * step;
    const offset = Math.abs(c - camera.target[alongX ? 2 : 0]) / (reach * s);
    const half = Math.sqrt(Math.max(0, 1 - offset * offset)) * reach * s;
    if (half < step) continue;
    const mid = camera.target[alongX ? 0 : 2];
    const ends = [mid - half, mid, mid + half].map(x => alongX ? [x, y, c] : [c, y, x]);
    const strength = (index % 2 === 0 ? 0.30 : 0.13) * Math.pow(1 - offset, 1.5);
    for (const end of [ends[0], ends[2]]) {
      const l = segment(ends[1], end);
      if (!l) continue;
      const gradient = ctx.createLinearGradient(...l);
      gradient.addColorStop(0, tint(strength)); gradient.addColorStop(1, tint(0));
      ctx.strokeStyle = gradient; ctx.lineWidth = pixel * (index % 2 === 0 ? 1.1 : 0.8);
      ctx.beginPath(); ctx.moveTo(l[0], l[1]); ctx.lineTo(l[2], l[3]); ctx.stroke();
    }
  }
}

function drawTrails() {
  if (!state.trail) return;
  ctx.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent"); ctx.lineCap = "round";
  for (const {m, shift} of stage()) {
    const last = m.frames - 1, now = Math.min(timeOf(m), last), stride = Math.max(1, Math.floor(m.frames / 600));
    const point = f => { const p = add(joint(m, f, 0), shift); p[1] = floorY(); return p; };
    for (const [from, to, alpha, width] of [[now, last, 0.28, 1.6], [0, now, 0.9, 2.4]]) {
      ctx.globalAlpha = alpha; ctx.lineWidth = width * pixel; ctx.beginPath();
      for (let f = from; f < to;) {
        const g = Math.min(to, (Math.floor(f / stride) + 1) * stride), l = segment(point(f), point(g));
        if (l) { ctx.moveTo(l[0], l[1]); ctx.lineTo(l[2], l[3]); }
        f = g;
      }
      ctx.stroke();
    }
  }
  ctx.globalAlpha = 1;
}

const lamp = unit([0.42, 1, 0.36]);  // towards the light, world space, turned with nothing: shadows stay put
// Drawn small and enlarged with smoothing, which softens it in every browser at no cost.
function drawShadow(parts) {
  const k = 1 / (5 * pixel), w = Math.max(1, Math.ceil(canvas.width * k)), h = Math.max(1, Math.ceil(canvas.height * k));
  if (shade.width !== w || shade.height !== h) { shade.width = w; shade.height = h; }
  shadeCtx.clearRect(0, 0, w, h);
  const y = floorY(), hulls = [];
  let x0 = w, y0 = h, x1 = 0, y1 = 0;
  for (const [a, b, ra, rb] of parts) {
    const ring = [];
    for (const [p, r] of [[a, ra], [b, rb]]) {
      const c = add(p, mul(lamp, (y - p[1]) / lamp[1])); c[1] = y;
      for (let i = 0; i < 10; i++) {
        const t = i * Math.PI / 5, v = toView([c[0] + r * Math.cos(t), y, c[2] + r * Math.sin(t)]);
        if (v[2] > near()) ring.push([(cx + focal * v[0] / v[2]) * k, (cy - focal * v[1] / v[2]) * k]);
      }
    }
    for (const [px, py] of ring) { x0 = Math.min(x0, px); y0 = Math.min(y0, py); x1 = Math.max(x1, px); y1 = Math.max(y1, py); }
    hulls.push(convexHull(ring));
  }
  // Four passes, each moved by half a small pixel, make the edge a ramp instead of a stair.
  shadeCtx.fillStyle = "#000"; shadeCtx.globalAlpha = 0.35;
  for (const [dx, dy] of [[-0.5, -0.25], [0.5, -0.25], [-0.5, 0.25], [0.5, 0.25]]) {
    shadeCtx.beginPath();
    for (const hull of hulls) hull.forEach((p, i) => i ? shadeCtx.lineTo(p[0] + dx, p[1] + dy) : shadeCtx.moveTo(p[0] + dx, p[1] + dy));
    shadeCtx.fill("nonzero");
  }
  x0 = clamp(Math.floor(x0) - 2, 0, w); y0 = clamp(Math.floor(y0) - 2, 0, h); x1 = clamp(Math.ceil(x1) + 2, 0, w); y1 = clamp(Math.ceil(y1) + 2, 0, h);
  if (x1 <= x0 || y1 <= y0) return;
  ctx.globalAlpha = dark() ? 0.5 : 0.29; ctx.imageSmoothingQuality = "high";
  ctx.drawImage(shade, x0, y0, x1 - x0, y1 - y0, x0 / k, y0 / k, (x1 - x0) / k, (y1 - y0) / k);
  ctx.globalAlpha = 1;
}
function convexHull(points) {
  points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const half = list => {
    const out = [];
    for (const p of list) {
      while (out.length > 1 && turn(out[out.length - 2], out[out.length - 1], p) <= 0) out.pop();
      out.push(p);
    }
    return out.slice(0, -1);
  };
  return half(points).concat(half(points.slice().reverse()));
}

// ---- The figure, pixel by pixel with a depth buffer, so that it needs no WebGL and looks the same everywhere.
// A body is the hull of two spheres. Seen along z, the visible point over a pixel belongs to the sphere s in
// [0,1] that maximises its front: with g(s) = r(s)² - |p - c(s)|², a parabola G - n (s - s0)², and the centre's
// slope dz towards the eye, that is s = s0 + dz sqrt(G / (n (n + dz²))), clamped.
let image = null, depth = null;
const palette = {
  dark: [[226, 222, 214], [76, 194, 180], [240, 147, 90]],
  light: [[214, 212, 208], [45, 170, 156], [232, 126, 66]],
};
function drawBody(parts) {
  const w = Math.max(1, Math.round(canvas.width * quality)), h = Math.max(1, Math.round(canvas.height * quality));
  if (!image || image.width !== w || image.height !== h) {
    body.width = w; body.height = h;
    image = bodyCtx.createImageData(w, h); depth = new Float32Array(w * h);
  }
  const pixels = image.data, n0 = near(), kx = w / canvas.width, f = focal * kx;
  const shapes = [];
  let x0 = w, y0 = h, x1 = 0, y1 = 0;
  for (const [a, b, ra, rb, side] of parts) {
    const va = toView(a), vb = toView(b);
    if (va[2] - ra < n0 || vb[2] - rb < n0) continue;
    const A = [cx * kx + f * va[0] / va[2], cy * kx - f * va[1] / va[2]], B = [cx * kx + f * vb[0] / vb[2], cy * kx - f * vb[1] / vb[2]];
    const Ra = f * ra / va[2], Rb = f * rb / vb[2];
    const box = [Math.max(0, Math.floor(Math.min(A[0] - Ra, B[0] - Rb)) - 1), Math.max(0, Math.floor(Math.min(A[1] - Ra, B[1] - Rb)) - 1),
                 Math.min(w, Math.ceil(Math.max(A[0] + Ra, B[0] + Rb)) + 2), Math.min(h, Math.ceil(Math.max(A[1] + Ra, B[1] + Rb)) + 2)];
    if (box[0] >= box[2] || box[1] >= box[3]) continue;
    x0 = Math.min(x0, box[0]); y0 = Math.min(y0, box[1]); x1 = Math.max(x1, box[2]); y1 = Math.max(y1, box[3]);
    shapes.push({A, B, Ra, Rb, za: va[2], zb: vb[2], box, side, far: (va[2] + vb[2]) / 2});
  }
  if (!shapes.length) return;
  for (let y = y0; y < y1; y++) {
    pixels.fill(0, (y * w + x0) * 4, (y * w + x1) * 4);
    depth.fill(1e9, y * w + x0, y * w + x1);
  }
  shapes.sort((p, q) => q.far - p.far);
  const light = [dot(lamp, right), dot(lamp, up), -dot(lamp, ahead)];  // view space, z towards the eye
  const fill = unit([-0.75, 0.15, 0.5]), sky = [up[1], -ahead[1]];     // a weak second lamp; the world's up
  const soft = 0.02 * current.size, colours = palette[state.theme], rimGain = dark() ? 0.34 : 0.12;
  for (const s of shapes) {
    const ux = s.B[0] - s.A[0], uy = s.B[1] - s.A[1], dr = s.Rb - s.Ra, zm = (s.za + s.zb) / 2;
    const dz = (s.za - s.zb) * f / zm, n = ux * ux + uy * uy - dr * dr, big = s.Ra > s.Rb ? 0 : 1;
    const tip = n <= 1e-6, bend = tip ? 0 : dz / Math.sqrt(n * (n + dz * dz)), toMetres = zm / f;
    const [cr, cg, cb] = colours[s.side];
    for (let y = s.box[1]; y < s.box[3]; y++) for (let x = s.box[0]; x < s.box[2]; x++) {
      const qx = x + 0.5 - s.A[0], qy = y + 0.5 - s.A[1];
      let t = big, g = 0;
      if (!tip) {
        const s0 = (qx * ux + qy * uy + s.Ra * dr) / n, r0 = s.Ra + s0 * dr, ex = qx - s0 * ux, ey = qy - s0 * uy;
        const G = r0 * r0 - ex * ex - ey * ey;
        t = clamp(G > 0 ? s0 + bend * Math.sqrt(G) : s0, 0, 1);
      }
      const r = s.Ra + t * dr, px = qx - t * ux, py = qy - t * uy, flat = px * px + py * py;
      g = r * r - flat;
      let cover = 1, outline = false;
      if (g < 2 * r) {  // within a pixel of the outline
        cover = r - Math.sqrt(flat) + 0.5;
        if (cover <= 0) continue;
        if (cover > 1) cover = 1;
        if (g < 0) g = 0;
        outline = cover < 0.5;
      }
      const front = Math.sqrt(g), at = y * w + x, z = s.za + t * (s.zb - s.za) - front * toMetres;
      // Where two bodies meet, a soft step in depth joins them like clay.
      const before = (depth[at] - z) / soft;
      if (before <= -1) continue;
      if (before < 1) { const e = 0.5 + 0.5 * before; cover *= e * e * (3 - 2 * e); }
      const inv = 1 / Math.max(r, front), nx = px * inv, ny = -py * inv, nz = front * inv;
      const key = Math.max(0, (nx * light[0] + ny * light[1] + nz * light[2] + 0.25) / 1.25);
      const side = Math.max(0, nx * fill[0] + ny * fill[1] + nz * fill[2]);
      const above = 0.5 + 0.5 * (ny * sky[0] + nz * sky[1]);
      const edge = 1 - nz, rim = edge * edge * edge * rimGain * above;
      const warm = 0.66 * key, cool = 0.26 + 0.20 * above + 0.10 * side;
      const R = cr * (warm * 1.04 + cool * 0.94) + 255 * rim, Gn = cg * (warm + cool * 0.97) + 255 * rim, Bl = cb * (warm * 0.94 + cool * 1.08) + 255 * rim;
      const i = at * 4, under = pixels[i + 3] / 255 * (1 - cover), alpha = cover + under;
      pixels[i] = (R * cover + pixels[i] * under) / alpha;
      pixels[i + 1] = (Gn * cover + pixels[i + 1] * under) / alpha;
      pixels[i + 2] = (Bl * cover + pixels[i + 2] * under) / alpha;
      pixels[i + 3] = 255 * alpha;
      if (before > 0 && !outline) depth[at] = z;
    }
  }
  bodyCtx.putImageData(image, 0, 0, x0, y0, x1 - x0, y1 - y0);
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(body, x0, y0, x1 - x0, y1 - y0, x0 / kx, y0 / kx, (x1 - x0) / kx, (y1 - y0) / kx);
}

// ---- Drawing and time.
let pixel = 1;
function draw() {
  const ratio = Math.min(devicePixelRatio || 1, 2), w = Math.round(innerWidth * ratio), h = Math.round(innerHeight * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  pixel = ratio;
  track(); aim();
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  const parts = stage().flatMap(capsules), floorSeen = eye[1] > floorY();
  if (floorSeen) { drawFloor(); drawShadow(parts); drawTrails(); }
  const began = performance.now();
  drawBody(parts);
  // Slow machines get a coarser figure, never a slower one; fast ones get it back.
  if (testing) return;
  cost += 0.1 * (performance.now() - began - cost);
  if (cost > 14 && quality > 0.4) { quality *= 0.8; cost = 8; } else if (cost < 5 && quality < 1) { quality = Math.min(1, quality * 1.1); cost = 6; }
}
function readout() {
  const last = current.frames - 1, s = x => (x / current.fps).toFixed(2);
  $("time").innerHTML = "";
  const bold = document.createElement("b");
  bold.textContent = `${Math.round(state.time)}`;
  $("time").append("frame ", bold, ` / ${last}\u2003${s(state.time)} / ${s(last)} s`);
  $("scrub").value = state.time;
  $("play").querySelector("path").setAttribute("d", state.playing ? "M7 5h4v14H7zM13 5h4v14h-4z" : "M8 5l11 7-11 7z");
}
function tick() {
  const now = performance.now();
  const passed = Math.min(0.1, (now - lastFrame) / 1000);
  lastFrame = now;
  if (state.playing && current.frames > 1) {
    const last = current.frames - 1;
    state.time += passed * current.fps * state.speed;
    if (state.time >= last) {
      if (state.loop) state.time %= last; else { state.time = last; state.playing = false; }
    }
    dirty = true;
  }
  if (dirty) { dirty = false; draw(); readout(); }
  nextTick(tick);
}
// A browser without a screen may never ask for a frame: the self-test counts on a timer instead.
const nextTick = f => testing ? setTimeout(f, 16) : requestAnimationFrame(f);

// ---- What buttons, keys and scripts do.
const viewer = window.viewer = {
  play() { if (state.time >= current.frames - 1) state.time = 0; state.playing = true; dirty = true; },
  pause() { state.playing = false; dirty = true; },
  toggle() { state.playing ? viewer.pause() : viewer.play(); },
  seek(frame) { state.time = clamp(Number(frame) || 0, 0, current.frames - 1); dirty = true; },
  step(by) { viewer.pause(); viewer.seek(Math.round(state.time) + by); },
  select(index) {
    state.all = index === "all" && motions.length > 1;
    state.motion = state.all ? 0 : clamp(index | 0, 0, motions.length - 1);
    current = state.all ? motions.reduce((a, b) => b.frames / b.fps > a.frames / a.fps ? b : a) : motions[state.motion];
    const same = motions.every(m => m.caption === current.caption);
    $("caption").textContent = state.all && !same ? `${motions.length} motions` : current.caption;
    $("note").textContent = state.all ? "" : current.note;
    $("scrub").max = current.frames - 1;
    [...$("picker").children].forEach((b, i) => b.setAttribute("aria-pressed", state.all ? i === motions.length : i === state.motion));
    state.time = 0; room = null;
    resetView();
  },
  set(name, value) {
    state[name] = value;
    if (name === "theme") {
      document.documentElement.dataset.theme = value;
      try { localStorage.setItem("theme", value); } catch (e) { /* private mode: not remembered */ }
    } else if ($(name) && $(name).tagName === "BUTTON") $(name).setAttribute("aria-pressed", value);
    if (name === "follow" && value) camera.focus = [0, 0];
    if (name === "follow" && !value) frameAll();
    dirty = true;
  },
  reset: resetView,
  render() { draw(); readout(); dirty = false; },
  get frame() { return Math.round(state.time); },
  get frames() { return current.frames; },
  get playing() { return state.playing; },
  get motion() { return state.all ? "all" : state.motion; },
  get count() { return motions.length; },
  get speed() { return state.speed; },
  set speed(x) { state.speed = clamp(Number(x) || 1, 0.05, 4); $("speed").value = String(x); },
  get theme() { return state.theme; },
  camera, errors,
};
$("play").onclick = viewer.toggle;
$("back").onclick = () => viewer.step(-1);
$("forth").onclick = () => viewer.step(1);
$("scrub").oninput = e => viewer.seek(e.target.value);
$("speed").onchange = e => { state.speed = Number(e.target.value); };
for (const name of ["loop", "follow", "trail"]) $(name).onclick = () => viewer.set(name, !state[name]);
$("reset").onclick = resetView;
$("theme").onclick = () => viewer.set("theme", dark() ? "light" : "dark");
addEventListener("keydown", e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.tagName === "SELECT") return;
  const keys = {" ": viewer.toggle, ArrowLeft: () => viewer.step(-1), ArrowRight: () => viewer.step(1), Home: () => viewer.seek(0),
    End: () => viewer.seek(1e9), l: $("loop").onclick, f: $("follow").onclick, p: $("trail").onclick, r: resetView, t: $("theme").onclick, a: () => viewer.select("all")};
  const digit = Number(e.key) - 1, action = keys[e.key] || keys[e.key.toLowerCase()];
  if (action) { e.preventDefault(); action(); }
  else if (digit >= 0 && digit < motions.length) viewer.select(digit);
});

// One finger or the left button turns, two fingers or the right button move, wheel or pinch zoom.
const fingers = new Map();
const moveCamera = (dx, dy) => {
  const k = camera.distance / (focal / pixel), along = [right[0], right[2]], toward = unit([ahead[0], 0, ahead[2]]);
  const before = camera.target.slice();
  camera.target[0] -= along[0] * dx * k; camera.target[2] -= along[1] * dx * k;
  camera.target[1] += dy * k * Math.cos(camera.pitch);
  camera.target[0] += toward[0] * dy * k * Math.sin(camera.pitch); camera.target[2] += toward[2] * dy * k * Math.sin(camera.pitch);
  camera.focus[0] += camera.target[0] - before[0]; camera.focus[1] += camera.target[2] - before[2];
};
const zoom = factor => { camera.distance = clamp(camera.distance * factor, 0.8 * current.size, 40 * current.size); dirty = true; };
canvas.addEventListener("pointerdown", e => {
  fingers.set(e.pointerId, [e.clientX, e.clientY, e.button === 2 || e.button === 1 || e.shiftKey]);
  try { canvas.setPointerCapture(e.pointerId); } catch (x) { /* a synthetic pointer cannot be captured */ }
  canvas.classList.add("drag"); canvas.focus({preventScroll: true});
});
canvas.addEventListener("pointermove", e => {
  const old = fingers.get(e.pointerId);
  if (!old) return;
  const dx = e.clientX - old[0], dy = e.clientY - old[1];
  if (fingers.size === 2) {
    const other = [...fingers].find(([id]) => id !== e.pointerId)[1];
    const was = Math.hypot(old[0] - other[0], old[1] - other[1]), is = Math.hypot(e.clientX - other[0], e.clientY - other[1]);
    if (was > 1 && is > 1) zoom(was / is);
    moveCamera(dx / 2, dy / 2);
  } else if (old[2]) moveCamera(dx, dy);
  else {
    camera.yaw -= dx * 0.008;
    camera.pitch = clamp(camera.pitch + dy * 0.006, -0.25, 1.5);
  }
  fingers.set(e.pointerId, [e.clientX, e.clientY, old[2]]);
  dirty = true;
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, e => {
  fingers.delete(e.pointerId);
  if (!fingers.size) canvas.classList.remove("drag");
});
canvas.addEventListener("wheel", e => { e.preventDefault(); zoom(Math.exp(clamp(e.deltaY, -240, 240) * 0.0012)); }, {passive: false});
canvas.addEventListener("dblclick", resetView);
canvas.addEventListener("contextmenu", e => e.preventDefault());
addEventListener("resize", () => { room = null; dirty = true; });

// ---- Start.
if (motions.length > 1) {
  $("picker").hidden = false;
  const takes = motions.every(m => m.caption === motions[0].caption);
  motions.forEach((m, i) => {
    const b = document.createElement("button");
    b.textContent = takes ? `take ${i + 1}` : `${i + 1}  ${m.label}`; b.title = takes ? m.note : m.caption;
    b.onclick = () => viewer.select(i);
    $("picker").append(b);
  });
  const every = document.createElement("button");
  every.textContent = "All side by side"; every.title = "All motions, in step (A)"; every.onclick = () => viewer.select("all");
  $("picker").append(every);
}
let theme = query.get("theme");
if (!theme) { try { theme = localStorage.getItem("theme"); } catch (e) { /* private mode */ } }
if (!theme) theme = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
state.theme = theme === "light" ? "light" : "dark";
document.documentElement.dataset.theme = state.theme;
viewer.select(query.get("motion") === "all" ? "all" : Number(query.get("motion")));
if (query.has("yaw")) camera.yaw += Number(query.get("yaw")) * Math.PI / 180;
if (query.has("frame")) viewer.seek(query.get("frame"));
else if (!testing && !matchMedia("(prefers-reduced-motion: reduce)").matches) viewer.play();
viewer.render();
lastFrame = performance.now();
nextTick(tick);

@SELFTEST@if (testing) selftest().catch(e => { document.title = "FAIL: " + e; });
})();
</script>
</body>
</html>
)page";
// clang-format on

}  // namespace mc::motion
