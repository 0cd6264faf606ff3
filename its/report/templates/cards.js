/* Build the card of a sample: picture with axes, controls, prompts, scores and settings. */

const ROLES = { visual: "looks like", audio: "sounds like" };
const LAYERS = { gray: "Gray", image: "Image", color: "Colour", colormap: "Colour map", fade: "Fade" };

/* Flatten nested settings to dotted names and values. The class of a component is stored under the component's name. */
function flatten(value, name = "", into = new Map()) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) {
      flatten(inner, key === "class" ? name : name ? `${name}.${key}` : key, into);
    }
  } else {
    into.set(name, Array.isArray(value) ? value.join(" × ") : value === null ? "none" : String(value));
  }
  return into;
}

const number = (value) => (Number.isInteger(value) ? String(value) : Number(value).toPrecision(3));

function ticks(parent, marks, side, unit) {
  for (const { label, at } of marks) {
    const mark = make("span", label);
    mark.style[side] = `${100 * at}%`;
    parent.append(mark);
  }
  if (marks.length) parent[side === "left" ? "lastChild" : "firstChild"].append(unit);
}

function promptList(list, prompts) {
  for (const [name, text] of Object.entries(prompts)) {
    const row = make("div");
    row.append(make("dt", ROLES[name] ?? name), make("dd", text));
    list.append(row);
  }
}

function description(sample) {
  return Object.entries(sample.prompts).map(([name, text]) => `${ROLES[name] ?? name} ${text}`).join(", ");
}

function picture(card, sample, report) {
  const frame = card.querySelector(".picture");
  frame.style.aspectRatio = `${sample.size[0]} / ${sample.size[1]}`;
  const add = (name, file) => {
    const image = make("img", undefined, name);
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    [image.width, image.height] = sample.size;
    image.addEventListener("error", () => report(`The picture can't be shown: ${sample.folder}/${file}`));
    image.src = `${sample.folder}/${file}`;
    frame.insertBefore(image, frame.querySelector(".playhead"));
  };
  add("gray", "spectrogram.png");
  for (const layer of sample.layers) add(layer, `${layer}.png`);
  frame.setAttribute("aria-label", `Position in the sound of a picture that ${description(sample)}`);
  ticks(card.querySelector(".hertz"), data.pitches[sample.pitch], "bottom", "");
  ticks(card.querySelector(".seconds"), data.times[sample.time] ?? [], "left", " s");
}

/* Add buttons that choose the visible picture. "fade", the default, fades the colour picture in during the sound. */
function layers(card, sample) {
  if (!sample.layers.length) return;
  const choices = ["gray", ...sample.layers, ...(sample.layers.includes("color") ? ["fade"] : [])];
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const group = card.querySelector(".layers");
  group.hidden = false;
  const choose = (layer) => {
    card.dataset.layer = layer;
    choices.forEach((name, index) => group.children[index].setAttribute("aria-pressed", String(name === layer)));
  };
  for (const layer of choices) {
    const button = make("button", LAYERS[layer]);
    button.type = "button";
    button.addEventListener("click", () => choose(layer));
    group.append(button);
  }
  choose(choices.includes("fade") && !still ? "fade" : "gray");
}

/* Add rank, scores, seed and similar facts in one line. */
function facts(line, sample, setup) {
  const add = (text, className) => line.append(make("span", text, className));
  if (sample.favourite) add("favourite", "mark");
  if (sample.rank !== null) add(`rank ${number(sample.rank)}`, "mark");
  else if (sample.kept) add("best", "mark");
  if (sample.kept === false) add("not kept");
  for (const [name, value] of Object.entries(sample.scores)) {
    const score = make("span", `${name} `);
    score.append(make("b", number(value)));
    line.append(score);
  }
  add(`seed ${sample.seed}`, "same");
  for (const [id, value] of [["method", methodOf(setup)], ["vocoder", vocoderOf(setup)], ["run", data.runs[sample.run].name]]) {
    if (value && !document.getElementById(`${id}-choice`).hidden) add(value, "same"); // else the head of the page shows it
  }
  if (setup.fallback) add("fallback: embedded demo weights", "stamp");
  else if (setup.embedded.length) add("embedded demo weights", "stamp");
}

const methodOf = (setup) => String(setup.settings.method ?? "unknown method");
const vocoderOf = (setup) => String(setup.settings.vocoder?.class ?? "");

/* Build the details when they are opened for the first time. */
function details(box, sample, setup) {
  const again = make("div", undefined, "again");
  const command = make("code", sample.again);
  const copy = make("button", "Copy");
  copy.type = "button";
  copy.addEventListener("click", () => copyText(command, copy));
  again.append(command, copy);
  const list = make("dl", undefined, "settings");
  const rows = (title, entries) => {
    if (!entries.length) return;
    list.append(make("dt", title, "title over"));
    for (const [name, value] of entries) list.append(breakable(name), make("dd", value));
  };
  rows("Settings", [...flatten(setup.settings)]);
  rows("Negative prompts", Object.entries(sample.negative));
  rows("Weights", Object.entries(setup.weights).map(([part, weights]) => [part, weightsText(weights)]));
  if (setup.fallback) rows("Fallback", [["reason", setup.fallback]]);
  rows("Versions", Object.entries(setup.versions));
  if (sample.took !== null) rows("Time", [["for this sample", `${number(sample.took)} s`]]);
  const files = make("p", undefined, "files");
  for (const name of sample.files) {
    const link = make("a", decodeURIComponent(name));
    link.href = `${sample.folder}/${name}`;
    files.append(link);
  }
  box.append(again, list, files);
}

/* Make an element with a dotted name that may wrap after dots and underscores. */
function breakable(name) {
  const term = make("dt");
  for (const piece of name.split(/(?<=[._])/)) term.append(piece, make("wbr"));
  return term;
}

function weightsText({ name, revision, sha256, embedded }) {
  const hash = revision ? revision.slice(0, 12) : sha256 ? `sha256 ${sha256.slice(0, 12)}` : "";
  return `${name}${embedded ? " (embedded)" : ""}${hash ? `, ${hash}` : ""}`;
}

function copyText(element, button) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  const done = (ok) => { button.textContent = ok ? "Copied" : "Selected"; };
  if (!navigator.clipboard) done(document.execCommand("copy")); // pages opened from disk, in some browsers
  else navigator.clipboard.writeText(element.textContent).then(() => done(true), () => done(false));
}

function buildCard(sample) {
  const card = document.getElementById("card").content.firstElementChild.cloneNode(true);
  const setup = data.setups[sample.setup];
  const error = card.querySelector(".error");
  const report = (text, title) => {
    error.hidden = false;
    error.replaceChildren(make("b", title ?? "A file is missing or damaged"), text);
  };
  card.setAttribute("aria-label", description(sample));
  promptList(card.querySelector(".prompts"), sample.prompts);
  facts(card.querySelector(".facts"), sample, setup);
  const box = card.querySelector("details");
  box.addEventListener("toggle", () => { if (box.children.length === 1) details(box, sample, setup); });
  if (sample.status !== "ok") report(sample.error || "No reason was recorded.", TITLES[sample.status] ?? sample.status);
  card.surface = null;
  if (sample.size === null) card.querySelector(".stage").remove();
  else picture(card, sample, report);
  if (sample.size !== null && sample.seconds !== null) {
    layers(card, sample);
    connect(card, sample, report);
  } else {
    card.querySelector(".controls").remove();
    for (const name of ["role", "tabindex", "aria-valuemin"]) card.querySelector(".picture")?.removeAttribute(name);
  }
  return card;
}

const TITLES = { failed: "This sample failed", damaged: "Files are missing or damaged" };

function connect(card, sample, report) {
  const frame = card.querySelector(".picture");
  const button = card.querySelector(".play");
  const full = card.querySelector(".full");
  const stage = card.querySelector(".stage");
  const { seconds } = sample;
  const surface = makeSurface(card, {
    source: `${sample.folder}/audio.wav`, seconds, name: description(sample), failed: (message) => report(message),
    shown(time) {
      move(time);
      if (time > 0) card.classList.add("begun");
      card.style.setProperty("--shown", String(Math.min(Math.max(time / seconds - 0.05, 0) * 2.2, 1)));
    },
  });
  const move = playable(frame, surface);
  surface.show(0);
  button.addEventListener("click", () => player.toggle(surface, sameMoment(card)));
  for (const element of [frame, button]) element.addEventListener("focus", () => { current = card; });
  if (!document.fullscreenEnabled) full.hidden = true;
  full.addEventListener("click", () => stage.requestFullscreen().then(() => frame.focus()));
  card.surface = surface;
}

/* Return the position of the sample of a group that plays, so that another sample continues from there. */
function sameMoment(card) {
  const group = card.closest(".group");
  const playing = group && player.playing && [...group.querySelectorAll(".card")].find((c) => c.surface === player.surface);
  return playing ? player.surface.at : undefined;
}
