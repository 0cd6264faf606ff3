/* Two samples, three questions, one pair after the other; at the end a file with the answers. */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const QUESTIONS = ["visual", "audio", "alignment"]; // as the paper asks them
const SIDES = ["left", "right"];
const NAMES = { left: "A", right: "B" };

/* Chance from the browser's own source; results say what came of it. */
function below(count) {
  const limit = Math.floor(2 ** 32 / count) * count;
  for (;;) {
    const [draw] = crypto.getRandomValues(new Uint32Array(1));
    if (draw < limit) return draw % count;
  }
}
const one = (list) => list[below(list.length)];
function shuffled(list) {
  const all = [...list];
  for (let last = all.length - 1; last > 0; last--) {
    const other = below(last + 1);
    [all[last], all[other]] = [all[other], all[last]];
  }
  return all;
}

/* A trial of every pair of prompts and baseline, and the catch trials, whose other side is plain noise. */
function draw() {
  const trial = (pair, two, isCatch) => {
    const [left, right] = shuffled(two);
    return { catch: isCatch, visual: pair.visual, audio: pair.audio, left, right, answers: {}, seconds: 0 };
  };
  const real = data.pairs.map((pair) => trial(pair, [one(pair.first), one(pair.other)], false));
  const traps = Array.from({ length: data.catch }, () => {
    const pair = one(data.pairs);
    return trial(pair, [one([...pair.first, ...pair.other]), data.noise], true);
  });
  return shuffled([...real, ...traps]);
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
  const clock = figure.querySelector(".clock");
  const surface = {
    source: media.sound,
    seconds: media.seconds,
    show(time) {
      surface.at = time;
      figure.querySelector(".playhead").style.transform = `translateX(${(100 * time) / media.seconds}%)`;
      clock.textContent = `${time.toFixed(1)} / ${media.seconds.toFixed(1)} s${heard.has(side) ? ", played" : ""}`;
    },
    playing(is) {
      figure.classList.toggle("playing", is);
      figure.classList.add("begun");
      button.setAttribute("aria-label", `${is ? "Pause" : "Play"} ${NAMES[side]}`);
    },
    ended() {
      heard.add(side);
      surface.show(media.seconds);
      ready();
    },
    failed: trouble,
  };
  image.src = media.picture;
  [image.width, image.height] = media.size;
  image.addEventListener("error", () => trouble(`The picture can't be shown: ${media.picture}`));
  frame.style.aspectRatio = `${media.size[0]} / ${media.size[1]}`;
  figure.querySelector("b").textContent = NAMES[side];
  button.setAttribute("aria-label", `Play ${NAMES[side]}`);
  for (const element of [button, frame]) element.addEventListener("click", () => player.toggle(surface));
  surface.show(0);
  return figure;
}

function trouble(message) {
  $("trouble").hidden = false;
  $("trouble").textContent = `${message}. Reload the page, or tell whoever gave it to you.`;
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
    input.addEventListener("change", () => { trial.answers[name] = side; ready(); });
    label.prepend(input);
    answers.append(label);
  }
  field.append(legend, answers);
  return field;
}

/* Answers only when both were played to the end; the next pair only when all is answered. */
function ready() {
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
  ready();
  $("title").focus();
  scrollTo(0, 0);
}

function finish() {
  $("trial").hidden = true;
  $("end").hidden = false;
  const participant = [...crypto.getRandomValues(new Uint8Array(6))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const who = ({ run, sample }) => ({ run, sample });
  const results = {
    format: data.format, study: data.study, participant, runs: data.runs,
    trials: trials.map((trial) => ({ ...trial, left: who(trial.left), right: who(trial.right) })),
  };
  const file = new Blob([JSON.stringify(results, null, 2) + "\n"], { type: "application/json" });
  $("save").href = URL.createObjectURL(file);
  $("save").download = `answers-${participant}.json`;
  $("save").addEventListener("click", () => removeEventListener("beforeunload", stay));
  $("end").querySelector("h1").focus();
}

function stay(event) {
  event.preventDefault(); // answers that aren't saved would be lost
}

$("begin").addEventListener("click", () => {
  addEventListener("beforeunload", stay);
  next();
});
$("questions").addEventListener("submit", (event) => {
  event.preventDefault();
  next();
});
