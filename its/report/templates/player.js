"use strict";

/* Player of the page, which plays one sound at a time.

   A surface is what the player plays: {source, seconds, show(time), playing(is), failed(message), ended()}. Every frame
   calls show() with audio.currentTime, so the line and the sound are in step. */
const player = (() => {
  const audio = new Audio();
  audio.preload = "none";
  let surface = null;
  let pending = null; // time to seek to once the sound's metadata is loaded
  const downloads = new Map(); // source -> promise of the URL of the complete sound in memory

  const show = () => surface && surface.show(pending ?? Math.min(audio.currentTime, surface.seconds));
  const frame = () => {
    show();
    if (!audio.paused) requestAnimationFrame(frame);
  };

  /* Seek. From a server without range requests, browsers can't seek, so the complete sound is downloaded. */
  async function seekAudio(time) {
    const { seekable } = audio, { source } = surface;
    const seeks = seekable.length > 0 && seekable.end(seekable.length - 1) > 0;
    pending = null;
    if (time === 0 || seeks || audio.src.startsWith("blob:")) { audio.currentTime = time; return; }
    pending = time;
    const download = downloads.get(source) ?? fetch(source).then((answer) => answer.blob()).then(URL.createObjectURL);
    downloads.set(source, download);
    const url = await download;
    if (surface.source !== source || audio.src === url) return;
    const plays = !audio.paused;
    audio.src = url;
    if (plays) play(surface, pending);
  }

  audio.addEventListener("loadedmetadata", () => {
    if (pending !== null) seekAudio(pending);
    show();
  });
  audio.addEventListener("play", () => { surface.playing(true); requestAnimationFrame(frame); });
  audio.addEventListener("pause", () => { if (surface) surface.playing(false); show(); });
  audio.addEventListener("seeked", show);
  audio.addEventListener("ended", () => { show(); surface.playing(false); if (surface.ended) surface.ended(); });
  audio.addEventListener("error", () => {
    if (!surface || !audio.getAttribute("src")) return;
    surface.playing(false);
    surface.failed("The sound can't be played: " + surface.source);
  });

  /* Switch to another surface. The previous one keeps its position. */
  function select(next, at) {
    if (surface === next) return;
    if (surface) { audio.pause(); surface.playing(false); }
    surface = next;
    pending = at;
    audio.src = next.source;
  }

  function seek(next, time) {
    const at = Math.min(Math.max(time, 0), next.seconds);
    select(next, at);
    if (audio.readyState > 0) seekAudio(at); else pending = at;
    next.show(at);
  }

  async function play(next, at = next.at ?? 0) {
    select(next, at >= next.seconds - 0.01 ? 0 : at);
    try {
      await audio.play();
    } catch (error) {
      if (error.name !== "AbortError") next.failed("The sound can't be played: " + next.source);
    }
  }

  return {
    audio, seek, play,
    get surface() { return surface; },
    get playing() { return surface !== null && !audio.paused; },
    toggle(next, at) { if (surface === next && !audio.paused) audio.pause(); else play(next, at); },
    pause() { audio.pause(); },
  };
})();

/* Make an element with text, which is never parsed as HTML: prompts may contain anything. */
function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

/* Make the surface of an element with a play button and a clock. */
function makeSurface(element, { source, seconds, name, failed, shown, ended }) {
  const button = element.querySelector(".play");
  const surface = {
    source, seconds, failed, ended,
    show(time) {
      element.querySelector(".clock").textContent = `${time.toFixed(1)} / ${seconds.toFixed(1)} s`;
      shown(time);
    },
    playing(is) {
      element.classList.toggle("playing", is);
      element.classList.add("begun");
      button.setAttribute("aria-label", `${is ? "Pause" : "Play"}: ${name}`);
    },
  };
  button.setAttribute("aria-label", `Play: ${name}`);
  return surface;
}

/* Move the line of a picture to a time. */
function moveLine(picture, surface, time) {
  surface.at = time;
  picture.querySelector(".playhead").style.transform = `translateX(${(100 * time) / surface.seconds}%)`;
}

/* Let a click, a drag or the arrow keys on a picture seek, and Space or Enter play. Return a function that moves the
   line and the slider to a time. */
function playable(picture, surface) {
  picture.setAttribute("aria-valuemax", surface.seconds.toFixed(2));
  const at = (event) => {
    const box = picture.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * surface.seconds;
  };
  let pressed = false;
  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pressed = true;
    if (event.pointerType !== "mouse") return;
    picture.setPointerCapture(event.pointerId);
    player.seek(surface, at(event));
  });
  picture.addEventListener("pointermove", (event) => {
    if (pressed && event.pointerType === "mouse") player.seek(surface, at(event));
  });
  picture.addEventListener("pointercancel", () => { pressed = false; });
  picture.addEventListener("pointerup", (event) => {
    if (!pressed) return;
    pressed = false;
    player.seek(surface, at(event));
    player.play(surface);
  });
  picture.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const here = surface.at ?? 0;
    const to = {
      ArrowRight: here + 0.5, ArrowUp: here + 0.5, ArrowLeft: here - 0.5, ArrowDown: here - 0.5,
      PageUp: here + 2, PageDown: here - 2, Home: 0, End: surface.seconds,
    }[event.key];
    if (to !== undefined) player.seek(surface, to);
    else if (event.key === " " || event.key === "Enter") player.toggle(surface);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return (time) => {
    moveLine(picture, surface, time);
    picture.setAttribute("aria-valuenow", time.toFixed(1));
    picture.setAttribute("aria-valuetext", `${time.toFixed(1)} of ${surface.seconds.toFixed(1)} seconds`);
  };
}
