"use strict";
// Draws one group at a time. All text reaches the page as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
// After Okabe and Ito's colours, told apart by colour-blind eyes and on dark pages too; further trajectories repeat them dashed.
const COLOURS = ["#2b7fd4", "#e0670c", "#10a37a", "#cc6fa8", "#5cb8ee", "#e6a012", "#8f8f8f", "#b3a712"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const colour = (place) => COLOURS[place % COLOURS.length];
const dash = (place) => DASHES[Math.floor(place / COLOURS.length) % DASHES.length];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const signed = (x, digits) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
const number = (x) => (x === null || x === undefined ? "–" : signed(x, 3));
const perplexity = (logprob) => Math.exp(-logprob);
const shown = (ppl) => (ppl < 1000 ? ppl.toPrecision(3) : ppl.toExponential(1));

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Plotly's hover labels read a little HTML: escape, then break into lines.
function label(text) {
  const short = text.length > 420 ? text.slice(0, 420) + " …" : text;
  const safe = short.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  return safe.replace(/(.{1,64})(\s+|$)/g, "$1<br>");
}

function layout(more) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: css("--ink"), size: 12.5, family: getComputedStyle(document.body).fontFamily },
    margin: { l: 54, r: 14, t: 12, b: 40 }, hovermode: "closest",
    hoverlabel: { align: "left", bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink"), size: 13 } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    ...more, xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}
const CONFIG = { displayModeBar: false, responsive: true };

function points(group, trajectory) {
  const all = [];
  if (group.initial !== null) all.push({ y: perplexity(group.initial), text: "before any thought", reflective: false });
  for (const segment of trajectory.segments) {
    const head = `<b>gain ${signed(segment.gain, 3)}</b>${segment.reflective ? " · ↺ reflection" : ""}`;
    all.push({ y: perplexity(segment.logprob), text: `${head}<br>${label(segment.text)}`, reflective: segment.reflective });
  }
  if (trajectory.final !== null) {
    all.push({ y: perplexity(trajectory.final), text: `after the whole response<br>${label(trajectory.answer || "")}`, last: true });
  }
  return all;
}

function drawCurve(group) {
  const traces = [];
  let longest = 0, lowest = Infinity, highest = 0;
  group.trajectories.forEach((trajectory, place) => {
    if (trajectory.error) return;
    const all = points(group, trajectory);
    longest = Math.max(longest, trajectory.segments.length);
    for (const point of all) { lowest = Math.min(lowest, point.y); highest = Math.max(highest, point.y); }
    traces.push({
      type: "scatter", mode: "lines+markers", name: trajectory.id, x: all.map((_, i) => i), y: all.map((p) => p.y),
      line: { color: colour(place), dash: dash(place), width: 2 },
      marker: {
        color: colour(place), opacity: 1, line: { color: css("--card"), width: 1.5 },
        size: all.map((p) => (p.reflective ? 13 : p.last ? 11 : 8)),
        symbol: all.map((p) => (p.reflective ? "diamond" : p.last ? "square" : "circle")),
      },
      customdata: all.map((_, i) => [place, i - 1]), text: all.map((p) => p.text),
      hovertemplate: "<b>%{fullData.name}</b> · perplexity %{y:.3~g}<br>%{text}<extra></extra>",
    });
  });
  const curve = document.getElementById("curve");
  const log = highest / lowest > 12;
  Plotly.react(curve, traces, layout({
    xaxis: { title: { text: "segments read", standoff: 8 }, dtick: longest > 14 ? 5 : 1, range: [-0.3, longest + 1.3], zeroline: false },
    yaxis: { title: { text: "perplexity" + (log ? " (log scale)" : ""), standoff: 8 }, type: log ? "log" : "linear", dtick: log ? "D2" : null },
    showlegend: true,
  }), CONFIG);
  curve.removeAllListeners("plotly_hover");
  curve.removeAllListeners("plotly_unhover");
  curve.removeAllListeners("plotly_click");
  const card = (event) => document.getElementById("segment-" + event.points[0].customdata.join("-"));
  curve.on("plotly_hover", (event) => card(event)?.classList.add("lit"));
  curve.on("plotly_unhover", (event) => card(event)?.classList.remove("lit"));
  curve.on("plotly_click", (event) => card(event)?.scrollIntoView({ behavior: "smooth", block: "center" }));
}

function drawBars(group) {
  const names = [...new Set(group.trajectories.flatMap((t) => Object.keys(t.components)))];
  const rows = ["reward", ...names];
  const traces = group.trajectories.map((trajectory, place) => ({
    type: "bar", name: trajectory.id, x: rows,
    y: rows.map((name) => (name === "reward" ? trajectory.reward : trajectory.components[name]) ?? null),
    marker: { color: colour(place), pattern: { shape: place < COLOURS.length ? "" : "/" } },
    hovertemplate: `<b>%{fullData.name}</b><br>%{x} %{y:+.3f}<extra></extra>`,
  }));
  Plotly.react("bars", traces, layout({
    barmode: "group", bargap: 0.25, showlegend: false, xaxis: {}, yaxis: { zerolinecolor: css("--soft"), zerolinewidth: 1.5 },
  }), CONFIG);
}

function segmentCard(segment, place, index, scale) {
  const kind = segment.gain > 0 ? "good" : segment.gain < 0 ? "bad" : "";
  const head = element("div", { class: "head" },
    element("span", {}, `${index + 1}`),
    element("span", { class: `gain ${kind}` }, signed(segment.gain, 3)),
    element("span", {}, `perplexity ${shown(perplexity(segment.logprob))}`),
    segment.reflective ? element("span", { class: "tag reflective" }, "↺ reflection") : null,
    segment.credited ? element("span", { class: "tag credited" }, "credited") : null);
  const card = element("li", { id: `segment-${place}-${index}` }, head, element("p", {}, segment.text));
  const strength = Math.round(20 + 80 * Math.min(1, Math.abs(segment.gain) / scale));
  if (kind) card.style.setProperty("--gain", `color-mix(in srgb, var(--${kind}) ${strength}%, var(--line))`);
  return card;
}

function trajectoryCard(group, trajectory, place) {
  const gains = group.trajectories.flatMap((t) => t.segments.map((s) => Math.abs(s.gain)));
  const scale = Math.max(...gains, 1e-9);
  const components = Object.entries(trajectory.components).map(([name, value]) => `${name} ${number(value)}`);
  if (trajectory.final !== null) components.push(`perplexity ${shown(perplexity(trajectory.final))}`);
  const card = element("article", { class: "trajectory" },
    element("h3", {}, element("span", {}, trajectory.id), element("b", {}, number(trajectory.reward))),
    element("p", { class: "numbers" }, components.join(" · ")),
    trajectory.error ? element("p", { class: "problem" }, trajectory.error) : null,
    trajectory.flags.length ? element("p", { class: "flag" }, trajectory.flags.join(", ")) : null,
    element("ol", {}, ...trajectory.segments.map((s, i) => segmentCard(s, place, i, scale))),
    trajectory.answer ? element("div", { class: "answer" }, element("h2", {}, "Answer"), element("p", {}, trajectory.answer)) : null);
  card.style.setProperty("--own", colour(place));
  return card;
}

let current = 0;
function show(position) {
  current = position;
  const group = data.groups[position];
  document.querySelectorAll("nav button").forEach((b, i) => b.setAttribute("aria-current", String(i === position)));
  document.getElementById("prompt").textContent = group.prompt ?? "(given as token ids)";
  document.getElementById("reference").textContent = group.reference ?? `(${group.tokens} tokens)`;
  document.getElementById("trajectories").replaceChildren(...group.trajectories.map((t, i) => trajectoryCard(group, t, i)));
  drawCurve(group);
  drawBars(group);
}

const nav = document.getElementById("groups");
data.groups.forEach((group, position) => {
  const paid = group.trajectories.map((t) => t.reward).filter((r) => r !== null);
  const range = paid.length ? `reward ${signed(Math.min(...paid), 2)} to ${signed(Math.max(...paid), 2)}` : "nothing scored";
  const button = element("button", {}, `${group.id} · ${range}`, element("small", {}, group.prompt ?? ""));
  button.addEventListener("click", () => { show(position); scrollTo({ top: 0 }); });
  nav.append(button);
});
if (data.total > data.groups.length) nav.append(element("p", {}, `The first ${data.groups.length} of ${data.total} groups.`));
if (data.groups.length === 1) document.querySelector(".layout").classList.add("single");
addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && event.target.closest?.("nav")) {
    event.preventDefault();
    show(Math.max(0, Math.min(data.groups.length - 1, current + step)));
    nav.children[current].focus();
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(current));
show(0);
