"use strict";

/* One sound for the whole page, so that no two ever play at once.

   A surface is what is played: {source, seconds, show(time), playing(is), failed(message), ended()}.
   show() is called for every frame, and the line stands where the sound is: both come from audio.currentTime. */
const player = (() => {
  const audio = new Audio();
  audio.preload = "none";
  let surface = null;
  let wanted = null; // a place to go to as soon as the sound is known
  const wholes = new Map(); // source -> address of the whole sound in memory

  const show = () => surface && surface.show(wanted ?? Math.min(audio.currentTime, surface.seconds));
  const frame = () => {
    show();
    if (!audio.paused) requestAnimationFrame(frame);
  };

  /* Go to a time. A server without range requests lets a sound be heard from its start alone, so it is loaded whole. */
  async function go(time) {
    const { seekable } = audio, { source } = surface;
    const seeks = seekable.length > 0 && seekable.end(seekable.length - 1) > 0;
    wanted = null;
    if (time === 0 || seeks || audio.src.startsWith("blob:")) { audio.currentTime = time; return; }
    wanted = time;
    const loaded = wholes.get(source) ?? fetch(source).then((answer) => answer.blob()).then(URL.createObjectURL);
    wholes.set(source, loaded);
    const whole = await loaded;
    if (surface.source !== source || audio.src === whole) return;
    const plays = !audio.paused;
    audio.src = whole;
    if (plays) play(surface, wanted);
  }

  audio.addEventListener("loadedmetadata", () => {
    if (wanted !== null) go(wanted);
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

  /* Make a surface the one that plays; the one before keeps its place. */
  function take(next, at) {
    if (surface === next) return;
    if (surface) { audio.pause(); surface.playing(false); }
    surface = next;
    wanted = at;
    audio.src = next.source;
  }

  function seek(next, time) {
    const at = Math.min(Math.max(time, 0), next.seconds);
    take(next, at);
    if (audio.readyState > 0) go(at); else wanted = at;
    next.show(at);
  }

  async function play(next, at = next.at ?? 0) {
    take(next, at >= next.seconds - 0.01 ? 0 : at);
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

/* An element with text, and never with HTML: what a prompt says is only ever text. */
function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

/* A picture with a line: click or drag to a place, arrows to move, Space or Enter to play. */
function playable(picture, surface) {
  picture.setAttribute("aria-valuemax", surface.seconds.toFixed(2));
  const line = picture.querySelector(".playhead");
  const show = (time) => {
    surface.at = time;
    line.style.transform = `translateX(${(100 * time) / surface.seconds}%)`;
    picture.setAttribute("aria-valuenow", time.toFixed(1));
    picture.setAttribute("aria-valuetext", `${time.toFixed(1)} of ${surface.seconds.toFixed(1)} seconds`);
  };
  const at = (event) => {
    const box = picture.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * surface.seconds;
  };
  let dragged = false;
  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragged = true;
    if (event.pointerType === "mouse") picture.setPointerCapture(event.pointerId);
    if (event.pointerType === "mouse") player.seek(surface, at(event));
  });
  picture.addEventListener("pointermove", (event) => {
    if (dragged && event.pointerType === "mouse") player.seek(surface, at(event));
  });
  picture.addEventListener("pointercancel", () => { dragged = false; });
  picture.addEventListener("pointerup", (event) => {
    if (!dragged) return;
    dragged = false;
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
  show(0);
  return show;
}
