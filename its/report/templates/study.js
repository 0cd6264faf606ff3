/* Show pairs of samples with three questions each, and save the answers in a file. */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const QUESTIONS = ["visual", "audio", "alignment"]; // in the order of the paper
const SIDES = ["left", "right"];
const NAMES = { left: "A", right: "B" };

/* Draw a uniform random number from 0 to count - 1. */
function randomBelow(count) {
  const limit = Math.floor(2 ** 32 / count) * count;
  for (;;) {
    const [draw] = crypto.getRandomValues(new Uint32Array(1));
    if (draw < limit) return draw % count;
  }
}
const randomItem = (list) => list[randomBelow(list.length)];
function shuffled(list) {
  const all = [...list];
  for (let last = all.length - 1; last > 0; last--) {
    const other = randomBelow(last + 1);
    [all[last], all[other]] = [all[other], all[last]];
  }
  return all;
}

/* Draw the trials: one for each prompt pair and other run, and the catch trials, which have noise on one side. */
function draw() {
  const trial = (pair, two, isCatch) => {
    const [left, right] = shuffled(two);
    return { catch: isCatch, visual: pair.visual, audio: pair.audio, left, right, answers: {}, seconds: 0 };
  };
  const real = data.pairs.map((pair) => trial(pair, [randomItem(pair.first), randomItem(pair.other)], false));
  const catches = Array.from({ length: data.catch }, () => {
    const pair = randomItem(data.pairs);
    return trial(pair, [randomItem([...pair.first, ...pair.other]), data.noise], true);
  });
  return shuffled([...real, ...catches]);
}

const trials = draw();
let here = -1;
let began = 0;
let heard = new Set();

function buildSide(side, trial) {
  const figure = $("side").content.firstElementChild.cloneNode(true);
  const media = data.media[trial[side].media];
  const image = figure.querySelector("img");
  const frame = figure.querySelector(".picture");
  const button = figure.querySelector(".play");
  const surface = makeSurface(figure, {
    source: media.sound, seconds: media.seconds, name: NAMES[side], failed: showError,
    shown(time) {
      moveLine(frame, surface, time);
      if (heard.has(side)) figure.querySelector(".clock").append(", played");
    },
    ended() {
      heard.add(side);
      surface.show(media.seconds);
      update();
    },
  });
  image.src = media.picture;
  [image.width, image.height] = media.size;
  image.addEventListener("error", () => showError(`The picture can't be shown: ${media.picture}`));
  frame.style.aspectRatio = `${media.size[0]} / ${media.size[1]}`;
  figure.querySelector("b").textContent = NAMES[side];
  for (const element of [button, frame]) element.addEventListener("click", () => player.toggle(surface));
  surface.show(0);
  return figure;
}

function showError(message) {
  $("trouble").hidden = false;
  $("trouble").textContent = `${message}. Reload the page, or tell the person who invited you.`;
}

function buildQuestion(name, trial) {
  const field = make("fieldset");
  const legend = make("legend");
  const quoted = (prompt) => `“${prompt}”`;
  const texts = {
    visual: ["Which one ", make("em", "looks"), ` most like ${quoted(trial.visual)}?`],
    audio: ["Which one ", make("em", "sounds"), ` most like ${quoted(trial.audio)}?`],
    alignment: [
      "The picture is played as a sound, from left to right. In which one does ", quoted(trial.visual), " better ",
      make("em", "align"), ` with the sounds of ${quoted(trial.audio)}?`,
    ],
  };
  legend.append(...texts[name]);
  const answers = make("div", undefined, "answers");
  for (const side of SIDES) {
    const label = make("label", NAMES[side]);
    const input = make("input");
    Object.assign(input, { type: "radio", name, value: side });
    input.addEventListener("change", () => { trial.answers[name] = side; update(); });
    label.prepend(input);
    answers.append(label);
  }
  field.append(legend, answers);
  return field;
}

/* Enable the answers once both sounds were played to the end, and the next pair once all questions are answered. */
function update() {
  const trial = trials[here];
  const both = SIDES.every((side) => heard.has(side));
  for (const field of $("questions").querySelectorAll("fieldset")) field.disabled = !both;
  const done = both && QUESTIONS.every((name) => trial.answers[name]);
  $("next").disabled = !done;
  $("hint").textContent = both ? "" : "Play both to the end first.";
}

function next() {
  player.pause();
  if (here >= 0) trials[here].seconds = Number(((performance.now() - began) / 1000).toFixed(1));
  here += 1;
  if (here === trials.length) return finish();
  const trial = trials[here];
  heard = new Set();
  began = performance.now();
  $("intro").hidden = true;
  $("trial").hidden = false;
  $("trouble").hidden = true;
  $("title").textContent = `Pair ${here + 1} of ${trials.length}`;
  $("progress").value = here;
  $("sides").replaceChildren(...SIDES.map((side) => buildSide(side, trial)));
  const row = make("div", undefined, "next");
  const button = make("button", here + 1 === trials.length ? "Finish" : "Next pair", "main");
  button.id = "next";
  button.type = "submit";
  const hint = make("span", "", "soft");
  hint.id = "hint";
  hint.setAttribute("role", "status");
  row.append(button, hint);
  $("questions").replaceChildren(...QUESTIONS.map((name) => buildQuestion(name, trial)), row);
  update();
  $("title").focus();
  scrollTo(0, 0);
}

function finish() {
  $("trial").hidden = true;
  $("end").hidden = false;
  const participant = [...crypto.getRandomValues(new Uint8Array(6))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const side = ({ run, sample }) => ({ run, sample });
  const results = {
    format: data.format, study: data.study, participant, runs: data.runs,
    trials: trials.map((trial) => ({ ...trial, left: side(trial.left), right: side(trial.right) })),
  };
  const file = new Blob([JSON.stringify(results, null, 2) + "\n"], { type: "application/json" });
  $("save").href = URL.createObjectURL(file);
  $("save").download = `answers-${participant}.json`;
  $("save").addEventListener("click", () => removeEventListener("beforeunload", stay));
  $("end").querySelector("h1").focus();
}

const stay = (event) => event.preventDefault(); // ask before leaving the page: unsaved answers would be lost

$("begin").addEventListener("click", () => {
  addEventListener("beforeunload", stay);
  next();
});
$("questions").addEventListener("submit", (event) => {
  event.preventDefault();
  next();
});
