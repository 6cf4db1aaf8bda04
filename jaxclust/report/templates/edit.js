"use strict";
// Edits of the clusters: kept in a list, undone from its end, saved as a small JSON file.
(() => {
  const { data, clusters, confidence, bytes, shorts, draw, refresh } = window.jaxclustMap;
  const NOISE = 65535, TILE = 104, SAMPLE = 3000, n = data.ids.length, key = `jaxclust-edits-${data.run}`;
  const by = (id) => document.getElementById(`edit-${id}`);
  const grid = by("grid"), state = by("state");
  const features = bytes(data.features), width = features.length / n;
  const outlier = data.outlier === null ? null : shorts(data.outlier);
  const names = new Map(data.names.map((name, i) => [i, name]));
  const edits = [], undone = [];  // edits as they are saved; how each is taken back
  const row = (i) => Math.floor(i * data.n / n);
  const pageRow = (r) => Math.ceil(r * n / data.n);
  let shownRows = [], chosen = new Set(), active = 0, anchor = 0;

  const title = (c) => c === NOISE ? "noise" : names.get(c) ? `${c} · ${names.get(c)}` : `${c}`;
  function sizes() {
    const found = new Map();
    for (const c of clusters) found.set(c, (found.get(c) || 0) + 1);
    return found;
  }
  const next = () => Math.max(data.k - 1, ...names.keys(), ...[...sizes().keys()].filter((c) => c !== NOISE)) + 1;

  // What an edit does to the pictures of this page: [pictures, the cluster of each].
  function effect(edit) {
    const all = [...clusters.keys()];
    if (edit.do === "merge") {
      const members = all.filter((i) => clusters[i] === edit.cluster);
      return [members, members.map(() => edit.into)];
    }
    if (edit.do === "split") {
      const parts = edit.parts.map((part) => part.map(pageRow));
      return [parts.flat(), parts.flatMap((part, p) => part.map(() => p ? edit.new[p - 1] : edit.cluster))];
    }
    if (edit.do === "rename") return [[], []];
    const moved = edit.rows.map(pageRow);
    return [moved, moved.map(() => edit.do === "noise" ? NOISE : edit.into)];
  }
  function perform(edit) {
    const [rows, values] = effect(edit);
    const before = rows.map((i) => clusters[i]), named = names.get(edit.cluster);
    rows.forEach((i, at) => { clusters[i] = values[at]; });
    if (edit.do === "rename") names.set(edit.cluster, edit.name);
    edits.push(edit);
    undone.push(() => {
      rows.forEach((i, at) => { clusters[i] = before[at]; });
      if (edit.do === "rename") names.set(edit.cluster, named || "");
    });
  }
  function keep() {
    try {
      if (edits.length) localStorage.setItem(key, JSON.stringify(edits));
      else localStorage.removeItem(key);
    } catch { /* a browser that keeps nothing */ }
  }
  function make(edit, said) {
    perform(edit);
    keep();
    chosen = new Set();
    show(said);
  }
  function undo() {
    if (!edits.length) return;
    const last = edits.pop();
    undone.pop()();
    keep();
    show(`Undone: ${last.do}.`);
  }

  // k-means on the principal components, the best of a few seedings; always the same.
  function parts(members, count) {
    let seed = 12345, best = null;
    const random = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648; };
    const distance = (i, centre) => {
      let sum = 0;
      for (let d = 0; d < width; d++) sum += (features[i * width + d] - centre[d]) ** 2;
      return sum;
    };
    const at = (i) => Array.from(features.subarray(i * width, (i + 1) * width));
    const nearest = (centres) => (i) => {
      let found = 0, least = Infinity;
      centres.forEach((centre, c) => { const d = distance(i, centre); if (d < least) { least = d; found = c; } });
      return found;
    };
    const some = members.filter((_, m) => m % Math.ceil(members.length / SAMPLE) === 0);
    for (let attempt = 0; attempt < 8; attempt++) {
      const centres = [at(some[Math.floor(random() * some.length)])];
      while (centres.length < count) {
        const far = some.map((i) => Math.min(...centres.map((c) => distance(i, c))));
        let left = random() * far.reduce((a, b) => a + b, 0), pick = 0;
        while (pick < far.length - 1 && (left -= far[pick]) > 0) pick++;
        centres.push(at(some[pick]));
      }
      for (let round = 0; round < 25; round++) {
        const owner = some.map(nearest(centres));
        centres.forEach((centre, c) => {
          const own = some.filter((_, m) => owner[m] === c);
          if (own.length) for (let d = 0; d < width; d++)
            centre[d] = own.reduce((sum, i) => sum + features[i * width + d], 0) / own.length;
        });
      }
      const cost = some.reduce((sum, i) => sum + Math.min(...centres.map((c) => distance(i, c))), 0);
      if (best === null || cost < best.cost) best = { cost, centres };
    }
    const owner = members.map(nearest(best.centres));
    const found = Array.from({ length: count }, (_, c) => members.filter((_, m) => owner[m] === c));
    return found.filter((part) => part.length).sort((a, b) => b.length - a.length);
  }

  const current = () => Number(by("cluster").value);
  function fill(select, options, value) {
    select.replaceChildren(...options.map(([v, text]) => new Option(text, v)));
    if (options.some(([v]) => String(v) === String(value))) select.value = value;
  }
  function show(said) {
    const found = sizes(), order = by("order").value, before = by("cluster").value;
    const listed = [...found.keys()].filter((c) => c !== NOISE);
    listed.sort((a, b) => order === "size" ? found.get(b) - found.get(a) || a - b : a - b);
    if (found.has(NOISE)) listed.push(NOISE);
    const options = listed.map((c) => [c, `${title(c)} (${found.get(c).toLocaleString("en")})`]);
    fill(by("cluster"), options, before);
    const others = options.filter(([c]) => c !== current() && c !== NOISE);
    fill(by("into"), others, by("into").value);
    fill(by("to"), [...others, [next(), "a new cluster"]], by("to").value);
    by("name").value = names.get(current()) || "";
    const noise = current() === NOISE;
    for (const id of ["rename", "merge", "split"]) by(id).disabled = noise || (id === "merge" && !others.length);
    by("undo").disabled = by("save").disabled = !edits.length;
    refresh(names);
    list();
    state.textContent = `${said ? `${said} ` : ""}${edits.length} edit${edits.length === 1 ? "" : "s"}.`;
  }

  function list() {
    const wanted = by("search").value.toLowerCase(), sort = by("sort").value, c = current();
    shownRows = [...clusters.keys()].filter((i) => clusters[i] === c && data.ids[i].toLowerCase().includes(wanted));
    const order = {
      least: (a, b) => confidence[a] - confidence[b],
      most: (a, b) => confidence[b] - confidence[a],
      outlier: (a, b) => outlier[b] - outlier[a],
      name: (a, b) => data.ids[a] < data.ids[b] ? -1 : data.ids[a] > data.ids[b] ? 1 : 0,
    }[sort];
    shownRows.sort((a, b) => order(a, b) || a - b);
    active = Math.min(active, Math.max(0, shownRows.length - 1));
    render();
  }
  const columns = () => Math.max(1, Math.floor((grid.clientWidth - 4) / TILE));
  // Only the tiles in sight are in the document.
  function render() {
    const across = columns(), lines = Math.ceil(shownRows.length / across);
    const first = Math.max(0, Math.floor(grid.scrollTop / TILE) - 1);
    const last = Math.min(lines, Math.ceil((grid.scrollTop + grid.clientHeight) / TILE) + 1);
    const space = document.createElement("div");
    space.className = "space";
    space.setAttribute("role", "presentation");
    space.style.height = `${lines * TILE}px`;
    for (let at = first * across; at < Math.min(last * across, shownRows.length); at++)
      space.append(tile(at, across));
    grid.replaceChildren(space);
    if (shownRows.length) grid.setAttribute("aria-activedescendant", `tile-${active}`);
    else grid.removeAttribute("aria-activedescendant");
    by("chosen").textContent = `${chosen.size.toLocaleString("en")} of ${shownRows.length.toLocaleString("en")} selected`;
    by("move").disabled = by("noise").disabled = !chosen.size;
  }
  function tile(at, across) {
    const i = shownRows[at], one = document.createElement("div");
    one.className = at === active ? "tile active" : "tile";
    one.id = `tile-${at}`;
    one.dataset.row = row(i);
    one.setAttribute("role", "option");
    one.setAttribute("aria-selected", chosen.has(i));
    one.setAttribute("aria-posinset", at + 1);
    one.setAttribute("aria-setsize", shownRows.length);
    one.setAttribute("aria-label", `${data.ids[i]}, confidence ${(confidence[i] / 255).toFixed(2)}`);
    one.title = data.ids[i];
    one.style.transform = `translate(${(at % across) * TILE}px, ${Math.floor(at / across) * TILE}px)`;
    if (data.sheets !== null) {
      const picture = document.createElement("canvas");
      one.append(picture);
      draw(i, picture);
    }
    const name = document.createElement("bdi");
    name.textContent = data.ids[i];
    one.append(name);
    return one;
  }
  function sight() {
    const top = Math.floor(active / columns()) * TILE;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + TILE > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + TILE - grid.clientHeight;
  }
  function range(from, to) {
    for (let at = Math.min(from, to); at <= Math.max(from, to); at++) chosen.add(shownRows[at]);
  }
  function toggle(at) {
    const i = shownRows[at];
    if (i === undefined) return;
    if (!chosen.delete(i)) chosen.add(i);
    anchor = at;
  }
  const picked = () => [...chosen].map(row).sort((a, b) => a - b);
  const count = (k) => `${k.toLocaleString("en")} picture${k === 1 ? "" : "s"}`;
  function move() {
    if (!chosen.size) return;
    const into = Number(by("to").value);
    make({ do: "move", rows: picked(), into }, `Moved ${count(chosen.size)} to ${title(into)}.`);
  }
  function toNoise() {
    if (chosen.size && current() !== NOISE) make({ do: "noise", rows: picked() }, `Marked ${count(chosen.size)} as noise.`);
  }
  function split() {
    const cluster = current(), members = [...clusters.keys()].filter((i) => clusters[i] === cluster);
    const wanted = Math.min(9, Math.max(2, Math.round(Number(by("parts").value)) || 2));
    const found = members.length < wanted ? [] : parts(members, wanted);
    if (found.length < 2) { show("These pictures cannot be told apart."); return; }
    const from = next(), fresh = found.slice(1).map((_, p) => from + p);
    make({ do: "split", cluster, parts: found.map((part) => part.map(row)), new: fresh },
      `Split into ${[cluster, ...fresh].join(", ")}.`);
  }
  function save() {
    const content = { jaxclust_edits: 1, run: data.run, edits };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content)], { type: "application/json" }));
    link.download = "edits.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    state.textContent = "Saved as edits.json. Apply it: jaxclust apply RUN_DIR edits.json";
  }

  by("cluster").addEventListener("change", () => { chosen = new Set(); active = 0; grid.scrollTop = 0; show(""); });
  by("order").addEventListener("change", () => show(""));
  by("sort").addEventListener("change", list);
  by("search").addEventListener("input", () => { active = 0; grid.scrollTop = 0; list(); });
  by("rename").addEventListener("click", () => {
    const name = by("name").value.trim();
    if (name !== (names.get(current()) || "")) make({ do: "rename", cluster: current(), name }, `Renamed cluster ${current()}.`);
  });
  by("name").addEventListener("keydown", (event) => { if (event.key === "Enter") by("rename").click(); });
  by("merge").addEventListener("click", () => {
    const cluster = current(), into = Number(by("into").value);
    make({ do: "merge", cluster, into }, `Merged ${title(cluster)} into ${title(into)}.`);
    by("cluster").value = into;
    show(`Merged ${title(cluster)} into ${title(into)}.`);
  });
  by("split").addEventListener("click", split);
  by("move").addEventListener("click", move);
  by("noise").addEventListener("click", toNoise);
  by("undo").addEventListener("click", undo);
  by("save").addEventListener("click", save);
  grid.addEventListener("scroll", () => requestAnimationFrame(render));
  grid.addEventListener("click", (event) => {
    const one = event.target.closest(".tile");
    if (!one) return;
    active = Number(one.id.slice(5));
    if (event.shiftKey) range(anchor, active); else toggle(active);
    render();
  });
  grid.addEventListener("keydown", (event) => {
    const across = columns(), end = shownRows.length - 1;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -end, End: end,
      PageUp: -4 * across, PageDown: 4 * across,
    };
    const keys = {
      " ": () => toggle(active), Escape: () => { chosen = new Set(); },
      n: toNoise, u: undo, m: () => by("to").focus(),
    };
    if ((event.ctrlKey || event.metaKey) && event.key === "a") chosen = new Set(shownRows);
    else if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key in steps) {
      const before = active;
      active = Math.max(0, Math.min(end, active + steps[event.key]));
      if (event.shiftKey) range(before, active); else anchor = active;
      sight();
    } else if (event.key in keys) keys[event.key]();
    else return;
    event.preventDefault();
    render();
  });
  by("to").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); move(); grid.focus(); } });
  new ResizeObserver(() => requestAnimationFrame(render)).observe(grid);

  // A page that is opened again goes on where it was left.
  try {
    for (const edit of JSON.parse(localStorage.getItem(key) || "[]")) perform(edit);
  } catch { /* nothing was kept, or a browser that keeps nothing */ }
  show(edits.length ? "Kept from the last visit:" : "");
})();
