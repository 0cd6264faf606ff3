/* Filter, sort and group the samples, build their cards as the page is scrolled, and handle keys. */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const PAGE = 24; // number of cards built at once
let current = null; // the card that Space plays
let unbuilt = []; // samples, or groups of samples, without cards

for (const [index, sample] of data.samples.entries()) {
  const { prompts, negative, id, seed, error, run } = sample;
  const texts = [...Object.values(prompts), ...Object.values(negative), id, seed, error, data.runs[run].name];
  sample.index = index;
  sample.text = texts.join(" ").toLowerCase(); // for the search
  sample.key = JSON.stringify([Object.entries(sample.prompts).sort(), sample.seed]);
}

const scoreNames = [...new Set(data.samples.flatMap((sample) => Object.keys(sample.scores)))].sort();
const setupOf = (sample) => data.setups[sample.setup];
const order = new Intl.Collator("en", { numeric: true }).compare;

function fill(select, entries) {
  for (const [value, label] of entries) select.append(new Option(label, value));
}

/* Fill a filter, which is hidden unless it has several values. */
function addFilter(id, values) {
  const distinct = [...new Set(values)].sort(order);
  fill($(id), [["", "all"], ...distinct.map((value) => [value, value])]);
  $(`${id}-choice`).hidden = distinct.length < 2;
}

addFilter("run", data.runs.map((run) => run.name));
addFilter("method", data.samples.map((sample) => methodOf(setupOf(sample))));
addFilter("vocoder", data.samples.map((sample) => vocoderOf(setupOf(sample))));
addFilter("status", data.samples.map((sample) => sample.status));
fill($("score"), scoreNames.map((name) => [name, name]));
$("score-choice").hidden = !scoreNames.length;
$("kept-choice").hidden = !data.samples.some((sample) => sample.kept !== null || sample.rank !== null);
fill($("sort"), [
  ["prompt", "prompt"], ["seed", "seed"],
  ...($("kept-choice").hidden ? [] : [["rank", "rank"]]),
  ...scoreNames.map((name) => [`score ${name}`, `${name}, best first`]),
  ...(data.samples.some((sample) => sample.took !== null) ? [["took", "time taken"]] : []),
]);

function compare(by) {
  const prompts = (a, b) => order(Object.values(a.prompts).join(" "), Object.values(b.prompts).join(" "));
  const last = (value) => value ?? Infinity;
  const score = (sample) => sample.scores[by.slice("score ".length)] ?? -Infinity;
  const incomplete = (sample) => Number(sample.status !== "ok"); // sorted last
  const then = (a, b) => prompts(a, b) || order(String(a.seed), String(b.seed)) || a.run - b.run || a.index - b.index;
  const difference = (a, b) => (a === b ? 0 : a - b);
  const first = {
    prompt: () => 0,
    seed: (a, b) => order(String(a.seed), String(b.seed)),
    rank: (a, b) => difference(last(a.rank), last(b.rank)) || Number(b.kept === true) - Number(a.kept === true),
    took: (a, b) => difference(last(a.took), last(b.took)),
  }[by] ?? ((a, b) => difference(score(b), score(a)));
  return (a, b) => incomplete(a) - incomplete(b) || first(a, b) || then(a, b);
}

function filtered() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const is = (id, value) => $(id).value === "" || $(id).value === value;
  const least = $("least").value === "" ? null : Number($("least").value);
  return data.samples.filter((sample) =>
    words.every((word) => sample.text.includes(word)) &&
    is("run", data.runs[sample.run].name) && is("method", methodOf(setupOf(sample))) &&
    is("vocoder", vocoderOf(setupOf(sample))) && is("status", sample.status) &&
    (least === null || sample.scores[$("score").value] >= least) &&
    (!$("kept").checked || sample.kept === true || (sample.kept === null && sample.rank !== null)));
}

/* Return the groups of two or more samples with the same prompts and seed. */
function grouped(samples) {
  const groups = new Map();
  for (const sample of samples) groups.set(sample.key, [...(groups.get(sample.key) ?? []), sample]);
  return [...groups.values()].filter((group) => group.length > 1);
}

/* Return the names of the weights, optionally with their digests. */
function weightsOf(setup, digests) {
  const names = Object.values(setup.weights).map((weights) => (digests ? weightsText(weights) : weights.name));
  return [...new Set(names)].join(", ");
}

/* Return the run, weights and settings that differ within a group, as texts for each sample. */
function differences(group) {
  const setups = group.map(setupOf);
  const digests = new Set(setups.map((setup) => weightsOf(setup, false))).size === 1;
  const flat = group.map((sample, index) => new Map([
    ["run", data.runs[sample.run].name], ...flatten(setups[index].settings), ["weights", weightsOf(setups[index], digests)],
  ]));
  const names = [...new Set(flat.flatMap((map) => [...map.keys()]))];
  const differing = names.filter((name) => new Set(flat.map((map) => map.get(name))).size > 1);
  // If a component's class differs, its arguments are left out.
  const shown = differing.filter((name) => !differing.some((other) => name.startsWith(`${other}.`)));
  const plain = ["run", "method", "vocoder", "combiner", "scheduler", "weights"];
  const label = (name, value) => (plain.includes(name) ? value : `${name} ${value}`);
  return flat.map((map) => shown.filter((name) => map.has(name)).map((name) => label(name, map.get(name))));
}

function buildGroup(group) {
  const section = make("section", undefined, "group");
  const title = make("h2");
  for (const [name, prompt] of Object.entries(group[0].prompts)) {
    title.append(make("i", `${title.childNodes.length ? ", " : ""}${ROLES[name] ?? name} `), prompt);
  }
  title.append(make("small", `seed ${group[0].seed}`));
  const cards = make("div", undefined, "cards");
  const labels = differences(group);
  for (const [index, sample] of group.entries()) {
    const card = buildCard(sample);
    const heading = card.querySelector(".differs");
    heading.hidden = false;
    for (const label of labels[index]) heading.append(make("span", label));
    cards.append(card);
  }
  section.append(title, cards);
  return section;
}

function show() {
  player.pause();
  current = null;
  const samples = filtered().sort(compare($("sort").value));
  const side = $("compare").checked;
  unbuilt = side ? grouped(samples) : samples;
  const shown = side ? unbuilt.reduce((sum, group) => sum + group.length, 0) : samples.length;
  const total = data.samples.length.toLocaleString("en");
  $("count").textContent = shown === data.samples.length ? `${total} samples` : `${shown.toLocaleString("en")} of ${total}`;
  $("samples").replaceChildren();
  if (!shown) {
    const reason = side ? "No samples of the same prompts and seed to compare." : "No sample matches the filters.";
    $("samples").append(make("p", reason, "none"));
  }
  $("samples").classList.toggle("cards", !side && shown > 0);
  more();
}

function more() {
  const side = $("compare").checked;
  for (let built = 0; built < PAGE && unbuilt.length;) {
    const next = unbuilt.shift();
    built += side ? next.length : 1;
    $("samples").append(side ? buildGroup(next) : buildCard(next));
  }
  $("more").parentElement.hidden = !unbuilt.length;
}

const cards = () => [...document.querySelectorAll(".card")].filter((card) => card.surface);

function go(step) {
  let all = cards();
  const here = all.indexOf(current);
  if (here + step >= all.length) { more(); all = cards(); }
  const next = all[current ? here + step : 0];
  if (!next) return;
  const playing = player.playing;
  const at = sameMoment(next);
  next.querySelector(".picture").focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
  current = next;
  if (playing) player.play(next.surface, at ?? 0);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === " " && !event.target.closest("button, summary, a")) {
    const card = current ?? cards()[0];
    if (!card) return;
    current = card;
    player.toggle(card.surface);
  } else if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
  else if (event.key === "/") $("find").focus();
  else return;
  event.preventDefault();
});

let typing = 0;
$("tools").addEventListener("submit", (event) => event.preventDefault());
$("tools").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(show, 60); });
$("more").addEventListener("click", more);
new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting)) more(); }, { rootMargin: "800px" })
  .observe($("more"));
$("filters").addEventListener("click", () => {
  $("filters").setAttribute("aria-expanded", String($("choices").classList.toggle("open")));
});
$("compare").checked = data.runs.length > 1 && grouped(data.samples).length > 0;
show();
