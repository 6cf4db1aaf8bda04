"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const shorts = (text) => {
    const view = new DataView(bytes(text).buffer);
    return Uint16Array.from({ length: view.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
  };
  const xy = shorts(data.xy), clusters = shorts(data.clusters), confidence = bytes(data.confidence);
  const labels = data.labels === null ? null : shorts(data.labels);
  const n = data.ids.length, NOISE = 65535;
  let names = new Map(data.names.map((name, i) => [i, name]));
  const title = (c) => c === NOISE ? "noise" : names.get(c) ? `cluster ${c} · ${names.get(c)}` : `cluster ${c}`;
  const canvas = document.getElementById("points"), pen = canvas.getContext("2d");
  const tip = document.getElementById("tip"), thumb = document.getElementById("thumb");
  const colourBy = document.getElementById("colour-by"), only = document.getElementById("only");
  const SHAPES = 5, RADIUS = 4;
  let zoom = 1, left = 0, top = 0, scale = 1, width = 0, height = 0, picked = -1, due = false;

  // A point's mark: shapes distinguish groups of the same colour.
  function shape(target, kind, x, y, r) {
    target.beginPath();
    if (kind === 0) target.arc(x, y, r, 0, 2 * Math.PI);
    else if (kind === 1) target.rect(x - r, y - r, 2 * r, 2 * r);
    else if (kind === 2) { target.moveTo(x, y - r); target.lineTo(x + r, y + r); target.lineTo(x - r, y + r); }
    else if (kind === 3) { target.moveTo(x, y - r); target.lineTo(x + r, y); target.lineTo(x, y + r); target.lineTo(x - r, y); }
    else { target.rect(x - r, y - r / 3, 2 * r, r / 1.5); target.rect(x - r / 3, y - r, r / 1.5, 2 * r); }
    target.fill();
  }
  const style = (group) => [data.colours[group % data.colours.length], Math.floor(group / data.colours.length) % SHAPES];
  const shade = (value) => `hsl(205 75% ${Math.round(85 - 0.55 * value)}%)`;
  const stamps = new Map();
  function stamp(colour, kind) {
    const key = colour + kind;
    if (!stamps.has(key)) {
      const one = document.createElement("canvas");
      one.width = one.height = 2 * Math.ceil(RADIUS * scale) + 2;
      const own = one.getContext("2d");
      own.fillStyle = colour;
      shape(own, kind, one.width / 2, one.height / 2, RADIUS * scale * 0.8);
      stamps.set(key, one);
    }
    return stamps.get(key);
  }
  function mark(i) {
    if (colourBy.value === "confidence") return [shade(Math.round(confidence[i] / 25.5) * 10), 0];
    if (colourBy.value === "label") return style(labels[i]);
    return clusters[i] === NOISE ? ["#888", 0] : style(clusters[i]);
  }

  // Map units are 0 to 1 along the shorter side of the canvas.
  const unit = () => Math.min(width, height) * 0.94 * zoom;
  const screenX = (i) => (xy[2 * i] / 65535 - 0.5 - left) * unit() + width / 2;
  const screenY = (i) => (0.5 - xy[2 * i + 1] / 65535 - top) * unit() + height / 2;
  const hidden = (i) => only.value !== "-1" && clusters[i] !== Number(only.value);

  // While the map moves, only some of many points are drawn; all of them when it rests.
  const QUICK = 12000;
  let moving = 0;
  function moved() {
    clearTimeout(moving);
    moving = setTimeout(() => { moving = 0; redraw(); }, 160);
    redraw();
  }
  function draw() {
    due = false;
    const stride = moving ? Math.ceil(n / QUICK) : 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const faint = [], strong = [];
    for (let i = 0; i < n; i += stride) (hidden(i) ? faint : strong).push(i);
    for (const [group, opacity] of [[faint, 0.08], [strong, n > 5000 ? 0.65 : 0.85]]) {
      pen.globalAlpha = opacity;
      for (const i of group) {
        const x = screenX(i), y = screenY(i);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        const one = stamp(...mark(i));
        pen.drawImage(one, x * scale - one.width / 2, y * scale - one.height / 2);
      }
    }
    pen.globalAlpha = 1;
    if (picked >= 0) {
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(screenX(picked), screenY(picked), 8, 0, 2 * Math.PI);
      pen.stroke();
      moveTip();
    }
  }
  function redraw() {
    if (!due) { due = true; requestAnimationFrame(draw); }
  }
  function resize() {
    const box = canvas.getBoundingClientRect();
    scale = window.devicePixelRatio || 1;
    width = box.width; height = box.height;
    canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale);
    stamps.clear();
    redraw();
  }

  // Pictures are cut out of sheets that are decoded when first needed.
  const sheets = new Map();
  function sheet(number) {
    if (!sheets.has(number)) {
      const image = new Image();
      sheets.set(number, new Promise((done) => { image.onload = () => done(image); }));
      image.src = data.sheets.uris[number];
    }
    return sheets.get(number);
  }
  async function cut(i, target, wanted = () => true) {
    const { side, columns, a_sheet } = data.sheets;
    target.width = target.height = side;  // which clears it
    const number = Math.floor(i / a_sheet), at = i % a_sheet;
    const across = Math.min(columns, n - number * a_sheet);
    const image = await sheet(number);
    if (!wanted()) return;
    target.getContext("2d").drawImage(
      image, (at % across) * side, Math.floor(at / across) * side, side, side, 0, 0, side, side);
  }
  async function picture(i) {
    delete thumb.dataset.row;
    await cut(i, thumb, () => picked === i);
    if (picked === i) thumb.dataset.row = i;
  }
  function pick(i) {
    if (i === picked) return;
    picked = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      document.getElementById("tip-name").textContent = data.ids[i];
      const label = labels === null ? "" : `, label ${data.labelNames[labels[i]]}`;
      document.getElementById("tip-text").textContent =
        `${title(clusters[i])}, confidence ${(confidence[i] / 255).toFixed(2)}${label}`;
      thumb.hidden = data.sheets === null;
      if (data.sheets !== null) picture(i);
    }
    redraw();
  }
  function moveTip() {
    const x = screenX(picked), y = screenY(picked);
    tip.hidden = x < 0 || y < 0 || x > width || y > height;
    tip.style.left = x > width / 2 ? "" : `${x + 14}px`;
    tip.style.right = x > width / 2 ? `${width - x + 14}px` : "";
    tip.style.top = `${Math.max(0, Math.min(y, height - 190))}px`;
  }
  function nearest(x, y, reach) {
    let found = -1, best = reach * reach;
    for (let i = 0; i < n; i++) {
      if (hidden(i)) continue;
      const dx = screenX(i) - x, dy = screenY(i) - y, distance = dx * dx + dy * dy;
      if (distance < best) { best = distance; found = i; }
    }
    return found;
  }
  function zoomAt(x, y, factor) {
    const before = unit();
    zoom = Math.min(400, Math.max(0.5, zoom * factor));
    const change = 1 / before - 1 / unit();
    left += (x - width / 2) * change; top += (y - height / 2) * change;
    moved();
  }
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const down = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    pick(nearest(...place(event), 14));
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, (event) => down.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    const here = place(event), before = down.get(event.pointerId);
    if (!before) { pick(nearest(...here, 14)); return; }
    if (down.size === 2) {
      const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const span = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
      zoomAt((here[0] + other[0]) / 2, (here[1] + other[1]) / 2, span(here) / Math.max(span(before), 1));
    } else {
      left -= (here[0] - before[0]) / unit(); top -= (here[1] - before[1]) / unit();
      moved();
    }
    down.set(event.pointerId, here);
  });
  // Lifting a finger fires this, too; then the picked point stays.
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && !down.size) pick(-1);
  });
  canvas.addEventListener("wheel", (event) => {
    // Somebody who only scrolls past must not zoom.
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoomAt(...place(event), Math.exp(-event.deltaY * 0.0015));
  }, { passive: false });

  let walked = [], step = -1;
  function walk(by) {
    if (!walked.length) {
      const near = (i) => Math.hypot(screenX(i) - width / 2, screenY(i) - height / 2);
      const all = Array.from({ length: n }, (_, i) => i).filter((i) => !hidden(i));
      walked = all.sort((a, b) => near(a) - near(b)).slice(0, 500);
      step = by > 0 ? -1 : 0;
    }
    if (!walked.length) return;
    step = (step + by + walked.length) % walked.length;
    pick(walked[step]);
  }
  function whole() {
    zoom = 1; left = top = 0;
    redraw();
  }
  const middle = (factor) => () => zoomAt(width / 2, height / 2, factor);
  document.getElementById("nearer").addEventListener("click", middle(1.4));
  document.getElementById("farther").addEventListener("click", middle(1 / 1.4));
  document.getElementById("whole").addEventListener("click", whole);
  canvas.addEventListener("keydown", (event) => {
    const pan = 0.1 / zoom;
    const keys = {
      ArrowLeft: () => { left -= pan; }, ArrowRight: () => { left += pan; },
      ArrowUp: () => { top -= pan; }, ArrowDown: () => { top += pan; },
      "+": middle(1.4), "=": middle(1.4), "-": middle(1 / 1.4),
      0: whole,
      n: () => walk(1), p: () => walk(-1), Escape: () => pick(-1),
    };
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!"np".includes(event.key)) walked = [];
    action();
    redraw();
  });
  document.getElementById("find").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    const matches = (id, i) => !hidden(i) && id.toLowerCase().includes(wanted);
    const found = wanted ? data.ids.findIndex(matches) : -1;
    if (found >= 0) {
      left = xy[2 * found] / 65535 - 0.5;
      top = 0.5 - xy[2 * found + 1] / 65535;
    }
    pick(found);
  });

  // The clusters there are, and how many of the page's images each has.
  function counted() {
    const found = new Map(Array.from({ length: edited ? 0 : data.k }, (_, c) => [c, 0]));
    for (const c of clusters) found.set(c, (found.get(c) || 0) + 1);
    return [...found].sort(([a], [b]) => a - b);
  }
  let edited = false;
  function refresh(given) {
    names = given;
    edited = true;
    const before = only.value;
    only.replaceChildren(new Option("all clusters", -1), ...counted().map(
      ([c, count]) => new Option(`${title(c)} (${count.toLocaleString("en")})`, c)));
    only.value = before;
    if (only.selectedIndex < 0) only.value = "-1";
    walked = [];
    legend();
    redraw();
  }
  function legend() {
    const list = document.getElementById("legend");
    list.replaceChildren();
    const add = (colour, kind, text) => {
      const item = document.createElement("li"), one = document.createElement("canvas");
      one.width = one.height = 28;
      const own = one.getContext("2d");
      own.fillStyle = colour;
      shape(own, kind, 14, 14, 10);
      const name = document.createElement("bdi");
      name.textContent = text;
      item.append(one, name);
      list.append(item);
    };
    if (colourBy.value === "confidence") for (const v of [0, 25, 50, 75, 100]) add(shade(v), 0, (v / 100).toFixed(2));
    else if (colourBy.value === "label") data.labelNames.forEach((name, i) => add(...style(i), name));
    else for (const [c] of counted()) add(...(c === NOISE ? ["#888", 0] : style(c)), title(c));
  }
  colourBy.addEventListener("change", () => {
    canvas.ariaLabel = `Map of the images, coloured by ${colourBy.value}`;
    legend();
    redraw();
  });
  only.addEventListener("change", () => { walked = []; pick(-1); redraw(); });
  for (const button of document.querySelectorAll("button.show"))
    button.addEventListener("click", () => {
      only.value = button.dataset.cluster;
      only.dispatchEvent(new Event("change"));
      document.getElementById("map").scrollIntoView();
      canvas.focus({ preventScroll: true });
    });
  new ResizeObserver(resize).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  legend();
  // For the edits; and for tests, where an image's point is on the canvas.
  window.jaxclustMap = {
    at: (i) => [screenX(i), screenY(i)], data, clusters, confidence, bytes, shorts, draw: cut, refresh,
  };
})();
